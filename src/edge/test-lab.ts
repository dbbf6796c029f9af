/** For tests: a real edge in front of servers on this host, without a guest. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { Hono } from "hono";
import { edgePath } from "../daemon/programs.ts";
import { GuestError, type Tunnel } from "../guest/guest.ts";
import type { HttpEnv } from "../http/env.ts";
import { listen } from "../http/listen.ts";
import { createLog } from "../lib/log.ts";
import { Edge, type EdgeOptions } from "./edge.ts";
import type { Begin, Ended } from "./protocol.ts";

export interface Lab {
  edge: Edge;
  /** "http://127.0.0.1:PORT". */
  url: string;
  /** What was asked for, and how it ended. */
  begun: Begin[];
  ended: Ended[];
  /** Tunnels that are open. */
  tunnels: Set<Tunnel>;
  stop(): Promise<void>;
}

/** `api` stands behind it; requests to /sandboxes/REF/proxy/PORT/ go to that port of this host unless `begin` says otherwise. */
export async function edgeLab(
  options: Partial<EdgeOptions> & { api?: Hono<HttpEnv<{ id: string }>>; revoked?: AbortSignal } = {},
): Promise<Lab> {
  const dir = mkdtempSync(`${tmpdir()}/bhatti-edge-`);
  const lab = { begun: [] as Begin[], ended: [] as Ended[], tunnels: new Set<Tunnel>() };
  const edge = new Edge({
    program: await edgePath(dir),
    dir: `${dir}/edge`,
    uid: process.getuid?.() === 0 ? 265_000 : null,
    listen: ["127.0.0.1:0"],
    trustedProxies: [],
    zones: ["localhost"],
    log: createLog("silent"),
    async begin(begin, passage) {
      lab.begun.push(begin);
      const port = Number(begin.port ?? begin.alias);
      const how = await passage.grant(
        {
          target: `host-1-${port}`,
          sandbox: "dev",
          port,
          open: async () => {
            const tunnel = await hostTunnel(port, () => lab.tunnels.delete(tunnel));
            lab.tunnels.add(tunnel);
            return tunnel;
          },
          revoked: options.revoked ?? new AbortController().signal,
        },
        { "x-request-id": "req_1", "x-bhatti-version": "1" },
      );
      lab.ended.push(how);
      return new Response(null);
    },
    ...options,
  });
  edge.prepare();
  const api = listen(options.api ?? new Hono<HttpEnv<{ id: string }>>(), `unix:${edge.apiSocket}`, {
    message(socket, text) {
      socket.send(text);
    },
  });
  const [address] = await edge.start();
  return {
    ...lab,
    edge,
    url: `http://${address}`,
    async stop() {
      await edge.stop(0);
      await api.stop(0);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** What `guest.forward` gives, to a port of this host. */
export async function hostTunnel(port: number, closed: () => void = () => {}): Promise<Tunnel> {
  let out: ReadableStreamDefaultController<Uint8Array>;
  let room: (() => void) | null = null;
  let over = false;
  const end = () => {
    if (over) return;
    over = true;
    closed();
    room?.();
    try {
      out.close();
    } catch {}
  };
  const readable = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        out = controller;
      },
      pull: () => void socket?.resume(),
    },
    { highWaterMark: 1 << 20, size: (chunk) => chunk!.length },
  );
  let socket: Bun.Socket | undefined;
  try {
    socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      allowHalfOpen: true,
      socket: {
        data(socket, bytes) {
          if (over) return;
          out.enqueue(new Uint8Array(bytes));
          if ((out.desiredSize ?? 0) <= 0) socket.pause();
        },
        drain() {
          room?.();
          room = null;
        },
        end,
        close: end,
        error: end,
      },
    });
  } catch (cause) {
    throw new GuestError("connection_refused", "nothing listens there", { cause });
  }
  const writable = new WritableStream<Uint8Array>({
    async write(chunk) {
      for (let left = chunk; left.length > 0 && !over; ) {
        const written = socket.write(left);
        if (written < 0) throw new Error("closed");
        left = left.subarray(written);
        if (left.length > 0)
          await new Promise<void>((resolve) => {
            room = resolve;
          });
      }
    },
    close: () => void socket.shutdown(),
  });
  return {
    readable,
    writable,
    close() {
      socket.terminate();
      end();
    },
  };
}
