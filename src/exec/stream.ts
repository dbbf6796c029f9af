/**
 * Exec with live stdin and exact bytes over a WebSocket: docs/exec-stream.md. (Bun buffers nothing of a WebSocket, while
 * HTTP/1.1 request and response bodies at the same time are not something every client library can do.)
 */
import { Hono } from "hono";
import type { About } from "../guest/errors.ts";
import { check, MAX_BODY } from "../http/decode.ts";
import { shapeProblem } from "../http/json-shape.ts";
import type { Place } from "../http/shares.ts";
import { AppError } from "../lib/errors.ts";
import type { Sandboxes } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";
import type { User } from "../users/user.ts";
import { aboutOf, notStarted, toExec, told, withSecrets } from "./request.ts";
import { execSchema } from "./schemas.ts";
import { StdinQueue } from "./stdin-queue.ts";

export interface StreamData {
  sandboxes: Sandboxes;
  user: User;
  ref: string;
  abort: AbortController;
  stdin: StdinQueue | null;
  guestSignal: ((signal: string) => void) | null;
  started: boolean;
  drained: (() => void) | null;
  place: Place;
}

type Socket = Bun.ServerWebSocket<StreamData>;
const STDOUT = 1;
const STDERR = 2;
const MAX_BUFFERED = 1 << 20;

export function execStreamRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.get("/sandboxes/:ref/exec/stream", (c) => {
    sandboxes.get(c.get("user"), c.req.param("ref"));
    const data: StreamData = {
      sandboxes,
      user: c.get("user"),
      ref: c.req.param("ref"),
      abort: new AbortController(),
      stdin: null,
      guestSignal: null,
      started: false,
      drained: null,
      place: c.get("place"),
    };
    const server = c.env.server as unknown as Bun.Server<StreamData>;
    if (!server.upgrade(c.req.raw, { data }))
      throw new AppError("bad_request", "a WebSocket handshake is expected");
    // The request lasts as long as the socket.
    data.place.keep();
    return new Response(null, { status: 101 });
  });
  return app;
}

export const streamSockets: Bun.WebSocketHandler<StreamData> = {
  // A little more than what is taken: a request that is too large gets an answer, not a cut connection.
  maxPayloadLength: 2 << 20,
  backpressureLimit: 16 << 20,
  idleTimeout: 0,
  sendPings: true,
  message(socket, message) {
    const { data } = socket;
    if (typeof message === "string") return control(socket, message);
    if (data.stdin?.push(new Uint8Array(message)) === false) {
      fail(socket, "too_large", "stdin was sent faster than the command takes it: wait for stdin_taken");
    }
  },
  drain(socket) {
    socket.data.drained?.();
    socket.data.drained = null;
  },
  close(socket) {
    socket.data.abort.abort();
    socket.data.drained?.();
    socket.data.place.release();
  },
};

function control(socket: Socket, message: string): void {
  if (Buffer.byteLength(message) > MAX_BODY)
    return fail(
      socket,
      "too_large",
      `the request is larger than ${MAX_BODY} bytes`,
      "send data on stdin or as a file, not as arguments",
    );
  const problem = shapeProblem(message);
  if (problem) return fail(socket, "bad_request", `control messages are JSON: ${problem}`);
  let value: { type?: string } | null;
  try {
    value = JSON.parse(message);
  } catch {
    return fail(socket, "bad_request", "control messages are JSON");
  }
  const { data } = socket;
  if (!data.started) {
    data.started = true;
    void run(socket, value);
  } else if (value?.type === "stdin_eof") {
    data.stdin?.end();
  }
}

function fail(socket: Socket, code: string, message: string, remedy?: string): void {
  socket.send(JSON.stringify({ type: "error", code, data: message, remedy }));
  socket.close(1000);
}

async function run(socket: Socket, first: unknown): Promise<void> {
  const { data } = socket;
  let release = () => {};
  let about: About = { sandbox: data.ref };
  try {
    const body = check(execSchema, first);
    about = aboutOf(data.ref, body);
    const lease = await data.sandboxes.lease(data.user, data.ref, "exec", data.abort.signal);
    release = lease.release;
    const request = await withSecrets(lease, toExec(body));
    data.stdin = new StdinQueue(
      (bytes) => socket.send(JSON.stringify({ type: "stdin_taken", bytes })),
      data.place,
    );
    request.stdin = data.stdin.stream;
    socket.send('{"type":"ready"}');
    const output = (kind: number) => (chunk: Uint8Array) => {
      const framed = new Uint8Array(chunk.length + 1);
      framed[0] = kind;
      framed.set(chunk, 1);
      socket.send(framed);
      if (socket.getBufferedAmount() > MAX_BUFFERED) {
        return new Promise<void>((resolve) => {
          data.drained = resolve;
        });
      }
    };
    const signal = AbortSignal.any([data.abort.signal, lease.revoked]);
    const result = await lease.guest.exec(
      request,
      { stdout: output(STDOUT), stderr: output(STDERR) },
      signal,
    );
    if (result.timedOut)
      return fail(socket, "timeout", `command timed out after ${request.timeoutMs! / 1000}s`);
    socket.send(JSON.stringify({ type: "exit", exit_code: result.exitCode }));
    socket.close(1000);
  } catch (error) {
    const failed = notStarted(error);
    if (failed) {
      socket.send(Buffer.concat([Buffer.from([STDERR]), Buffer.from(`${failed.message}\n`)]));
      socket.send(JSON.stringify({ type: "exit", exit_code: failed.exitCode }));
      socket.close(1000);
      return;
    }
    const { code, data: message, remedy } = told(error, about);
    fail(socket, code, message, remedy);
  } finally {
    release();
  }
}
