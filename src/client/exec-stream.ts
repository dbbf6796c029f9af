/** Exec over the WebSocket of docs/exec-stream.md: live stdin, exact bytes. */

import { TransportError } from "./error.ts";
import type { ExecBody, ExecOutcome, ExecSink } from "./exec.ts";

const STDOUT = 1;
/** Bytes of stdin on their way before the next chunk is read. */
const MAX_BUFFERED = 1 << 20;

export interface StreamTarget {
  /** http(s) address of the endpoint. */
  url: string;
  token?: string;
  signal?: AbortSignal;
}

/** Runs to the command's end. @throws TransportError when the connection ends first (the server then kills the command). */
export function execStream(
  target: StreamTarget,
  body: ExecBody,
  sink: ExecSink,
  stdin?: ReadableStream<Uint8Array>,
): Promise<ExecOutcome> {
  return new Promise((resolve, reject) => {
    const headers: Record<string, string> = target.token ? { authorization: `Bearer ${target.token}` } : {};
    const socket = new WebSocket(target.url.replace(/^http/, "ws"), { headers });
    socket.binaryType = "arraybuffer";
    let settled = false;
    const abort = () => {
      socket.terminate();
      fail(target.signal?.reason ?? new Error("aborted"));
    };
    const finish = (outcome: ExecOutcome) => {
      settled = true;
      target.signal?.removeEventListener("abort", abort);
      resolve(outcome);
      socket.close();
    };
    const fail = (error: unknown) => {
      if (settled) return;
      settled = true;
      target.signal?.removeEventListener("abort", abort);
      reject(error);
    };
    if (target.signal?.aborted) return abort();
    target.signal?.addEventListener("abort", abort, { once: true });
    socket.onopen = () => socket.send(JSON.stringify(body));
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        const bytes = new Uint8Array(data as ArrayBuffer);
        if (bytes[0] === STDOUT) sink.stdout(bytes.subarray(1));
        else sink.stderr(bytes.subarray(1));
        return;
      }
      const message = JSON.parse(data) as { type: string; exit_code?: number; code?: string; data?: string };
      if (message.type === "ready") void feed(socket, stdin);
      else if (message.type === "exit") finish({ exitCode: Number(message.exit_code), timedOut: false });
      else if (message.type === "error") {
        finish({
          exitCode: 125,
          timedOut: message.code === "timeout",
          code: message.code,
          ...(message.code === "timeout" ? {} : { error: message.data ?? "failed" }),
        });
      }
    };
    const lost = () =>
      fail(new TransportError("the connection ended before the command did; it was stopped", "unreachable"));
    socket.onerror = lost;
    socket.onclose = lost;
  });
}

async function feed(socket: WebSocket, stdin: ReadableStream<Uint8Array> | undefined): Promise<void> {
  try {
    if (stdin) {
      for await (const chunk of stdin as unknown as AsyncIterable<Uint8Array<ArrayBuffer>>) {
        if (socket.readyState !== WebSocket.OPEN) return;
        socket.send(chunk);
        while (socket.bufferedAmount > MAX_BUFFERED) await Bun.sleep(1);
      }
    }
  } catch {
  } finally {
    if (socket.readyState === WebSocket.OPEN) socket.send('{"type":"stdin_eof"}');
  }
}
