/**
 * The daemon's side of the edge (edge/, Go): the process that clients meet. It speaks HTTP and TLS with them and HTTP with
 * services in guests, so that the daemon parses neither; it comes back for every request that a guest is to answer.
 */
import { chmodSync, chownSync, mkdirSync, rmSync } from "node:fs";
import type { Logger } from "pino";
import { respond } from "../http/server.ts";
import { AppError } from "../lib/errors.ts";
import { EdgeProcess } from "./edge-process.ts";
import type { Grant, Passage } from "./passage.ts";
import type { Begin, Ended, FromEdge, Refusal } from "./protocol.ts";
import { serveTunnels } from "./tunnels.ts";

export interface EdgeOptions {
  /** The program. */
  program: string;
  /** Folder of the daemon's sockets, and the process's whole file system. */
  dir: string;
  /** User of the process; null = the daemon's own, without a file system of its own (no root). */
  uid: number | null;
  listen: string[];
  trustedProxies: string[];
  /** Whose names are published ports. */
  zones: string[];
  log: Logger;
  /**
   * Decides about a request: grants it and returns at its end, or returns the answer that the client gets instead. `signal`
   * fires when the client has left or the request is over.
   */
  begin(begin: Begin, passage: Passage, signal: AbortSignal): Promise<Response>;
}

/** Connections at a time, of all clients and of one address. */
const MAX_CONNECTIONS = 8192;
const MAX_OF_ONE = 4096;
const LEFT: Ended = { status: 499, in: 0, out: 0 };

/** A request that the edge has asked for and not yet ended. */
class Asked {
  readonly gone = new AbortController();
  readonly over = Promise.withResolvers<Ended>();
  grant: Grant | null = null;

  /** Idempotent. */
  end(how: Ended): void {
    this.over.resolve(how);
    this.gone.abort();
  }
}

export class Edge {
  private readonly asked = new Map<number, Asked>();
  private readonly process: EdgeProcess;
  private stopTunnels = () => {};

  constructor(private readonly options: EdgeOptions) {
    this.process = new EdgeProcess(options.program, options.log, {
      setup: (listen) => ({
        uid: options.uid ?? 0,
        root: options.dir,
        listen,
        trusted_proxies: options.trustedProxies,
        zones: options.zones,
        max_connections: MAX_CONNECTIONS,
        max_connections_per_peer: MAX_OF_ONE,
      }),
      heard: (message) => this.heard(message),
      ended: () => {
        for (const asked of this.asked.values()) asked.end(LEFT);
        this.asked.clear();
      },
    });
  }

  /** Of the process, while it runs. */
  get pid(): number | null {
    return this.process.pid;
  }

  /** Where the daemon's own server of the API has to listen. */
  get apiSocket(): string {
    return `${this.options.dir}/api.sock`;
  }

  /** Makes the folder of the sockets. Before anything listens in it. */
  prepare(): void {
    // The process passes through it to its sockets, and cannot look around; nobody else does either.
    const { dir, uid } = this.options;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (uid !== null) chownSync(dir, 0, uid);
    chmodSync(dir, uid === null ? 0o700 : 0o710);
    for (const name of ["api.sock", "tunnels.sock"]) rmSync(`${this.options.dir}/${name}`, { force: true });
  }

  /** Resolves with the addresses that it listens on. Throws when it cannot. `apiSocket` must be served. */
  async start(): Promise<string[]> {
    const tunnels = `${this.options.dir}/tunnels.sock`;
    this.stopTunnels = serveTunnels(tunnels, (id) => this.asked.get(id)?.grant?.open() ?? null);
    if (this.options.uid !== null)
      for (const path of [tunnels, this.apiSocket]) chownSync(path, this.options.uid, this.options.uid);
    return this.process.start(this.options.listen);
  }

  /** Accepts no more, gives running requests `drainMs`, then ends the process. */
  async stop(drainMs: number): Promise<void> {
    await this.process.stop(drainMs);
    this.stopTunnels();
  }

  private heard(message: Exclude<FromEdge, { do: "ready" }>): void {
    if (message.do === "begin") return void this.decide(message);
    const { id, status, in: received, out } = message;
    this.asked.get(id)?.end({ status, in: received, out });
    this.asked.delete(id);
  }

  private async decide(begin: Begin): Promise<void> {
    const { id } = begin;
    const asked = new Asked();
    this.asked.set(id, asked);
    const { signal } = asked.gone;
    let granted = false;
    const passage: Passage = {
      grant: (grant, headers) => {
        granted = true;
        if (signal.aborted) return asked.over.promise;
        asked.grant = grant;
        const { target, sandbox, port, usedAuth = false } = grant;
        const told = { target, sandbox, port, headers, used_auth: usedAuth };
        this.process.say({ do: "answer", id, grant: told });
        const revoke = () => void this.revoke(id, grant.revoked.reason);
        grant.revoked.addEventListener("abort", revoke, { once: true });
        return asked.over.promise.finally(() => grant.revoked.removeEventListener("abort", revoke));
      },
    };
    let answer: Response;
    try {
      answer = await this.options.begin(begin, passage, signal);
    } catch (error) {
      answer = respond(error, "", this.options.log);
    }
    if (!granted && this.asked.get(id) === asked) {
      this.asked.delete(id);
      this.process.say({ do: "answer", id, refusal: await refusalOf(answer) });
    }
  }

  private async revoke(id: number, reason: unknown): Promise<void> {
    const error =
      reason instanceof AppError
        ? reason
        : new AppError("unavailable", "the sandbox was stopped during the request", { retryAfter: 1 });
    this.process.say({ do: "revoke", id, refusal: await refusalOf(respond(error, "", this.options.log)) });
  }
}

async function refusalOf(answer: Response): Promise<Refusal> {
  const headers = Object.fromEntries(
    [...answer.headers].filter(([name]) => name !== "content-length" && name !== "content-type"),
  );
  const text = await answer.text();
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {}
  return { status: answer.status, headers, body };
}
