/** The WebSocket of docs/exec-stream.md: live stdin, exact bytes. */
import { ApiError, TransportError } from "./error.ts";
import type { ExecBody, ExecOutcome, ExecSink } from "./exec-types.ts";
import type { Http } from "./http.ts";

const STDOUT = 1;
const STDERR = 2;
/** Below the server's limit of 1 MiB a message. */
const STDIN_CHUNK = 64 * 1024;
/** Bytes of the request. */
const MAX_REQUEST = 1024 * 1024;
/** Bytes of stdin that the command has not taken yet, before the next chunk is sent. */
const STDIN_WINDOW = 2 * 1024 * 1024;

export const lost = (http: Http, what: string) => new TransportError(`${http.base}: ${what}`, "lost");

/** An open socket, or undefined when the handshake failed: the API does not say why. */
export function open(http: Http, route: string): Promise<WebSocket | undefined> {
  http.options.signal?.throwIfAborted();
  const headers: Record<string, string> = http.options.token
    ? { authorization: `Bearer ${http.options.token}` }
    : {};
  const socket = new WebSocket(http.base.replace(/^http/, "ws") + route, { headers });
  socket.binaryType = "arraybuffer";
  return new Promise((resolve) => {
    socket.onopen = () => resolve(socket);
    socket.onerror = () => resolve(undefined);
    socket.onclose = () => resolve(undefined);
  });
}

/** From the request to the end of the command. The socket is closed on every path, which kills what still runs. */
export async function converse(
  http: Http,
  socket: WebSocket,
  body: ExecBody,
  sink: ExecSink,
  stdin: ReadableStream<Uint8Array> | undefined,
): Promise<ExecOutcome> {
  const request = JSON.stringify(body);
  if (Buffer.byteLength(request) > MAX_REQUEST) {
    socket.terminate();
    throw new ApiError(
      413,
      `arguments and environment are larger than ${MAX_REQUEST} bytes together`,
      "too_large",
      "send data on stdin or as a file, not as arguments",
    );
  }
  const { signal } = http.options;
  const abort = () => socket.terminate();
  const taken = { bytes: 0 };
  const conversation = new Promise<ExecOutcome>((resolve, reject) => {
    socket.onclose = () => reject(lost(http, "the connection ended before the command did; it was killed"));
    socket.onerror = () => {};
    socket.onmessage = ({ data }) => {
      try {
        if (typeof data !== "string") return output(new Uint8Array(data as ArrayBuffer), sink);
        const event = JSON.parse(data) as Record<string, unknown>;
        // A stdin that cannot be read must not look like one that ended.
        if (event.type === "ready") void forward(socket, stdin, taken).catch(reject);
        else if (event.type === "stdin_taken") taken.bytes = Number(event.bytes);
        else if (event.type === "exit") resolve({ exitCode: Number(event.exit_code), timedOut: false });
        else if (event.type === "error" && event.code === "timeout")
          resolve({ exitCode: 124, timedOut: true });
        else if (event.type === "error") reject(refusal(event));
      } catch (error) {
        reject(error);
      }
    };
    signal?.addEventListener("abort", abort);
    socket.send(request);
  });
  return conversation.finally(() => {
    signal?.removeEventListener("abort", abort);
    socket.terminate();
  });
}

function refusal({ data, code, remedy }: Record<string, unknown>): ApiError {
  const hint = typeof remedy === "string" ? remedy : undefined;
  return new ApiError(500, String(data ?? "failed"), String(code ?? "guest_failed"), hint);
}

function output(message: Uint8Array, sink: ExecSink): void {
  if (message[0] === STDOUT) sink.stdout(message.subarray(1));
  else if (message[0] === STDERR) sink.stderr(message.subarray(1));
}

/** Sends stdin and its end. Waits while the command is behind. Ends early when the socket closes. */
async function forward(
  socket: WebSocket,
  stdin: ReadableStream<Uint8Array> | undefined,
  taken: { bytes: number },
): Promise<void> {
  let sent = 0;
  const isOpen = () => socket.readyState === WebSocket.OPEN;
  for await (const chunk of (stdin ?? []) as AsyncIterable<Uint8Array<ArrayBuffer>>) {
    for (let at = 0; at < chunk.length; at += STDIN_CHUNK) {
      while (sent - taken.bytes > STDIN_WINDOW && isOpen()) await Bun.sleep(1);
      if (!isOpen()) return;
      const piece = chunk.subarray(at, at + STDIN_CHUNK);
      socket.send(piece);
      sent += piece.length;
    }
  }
  if (isOpen()) socket.send('{"type":"stdin_eof"}');
}
