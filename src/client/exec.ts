/** Commands in a sandbox: live over a WebSocket (docs/exec-stream.md), or detached. */
import { ApiError, TransportError } from "./error.ts";
import { type Http, path } from "./http.ts";

export interface ExecBody {
  cmd: string[];
  /** Seconds, 1…86400; the server's default is 300. The command is killed when they have passed. */
  timeout_sec?: number;
  env?: Record<string, string>;
  cwd?: string;
  user?: "lohar" | "root";
}

/** Called in order; may block, which holds the guest back. */
export interface ExecSink {
  stdout(chunk: Uint8Array): void;
  stderr(chunk: Uint8Array): void;
}

export interface ExecOutcome {
  exitCode: number;
  timedOut: boolean;
}

const STDOUT = 1;
const STDERR = 2;
/** Below the server's limit of 1 MiB a message. */
const STDIN_CHUNK = 64 * 1024;
const STDIN_BUFFERED = 1024 * 1024;

export class ExecClient {
  constructor(private readonly http: Http) {}

  /**
   * Runs a command to its end; output comes byte-exact, stdin goes as it is read and ends when it ends.
   * Aborting the client's signal closes the socket, which kills the command.
   * @throws ApiError when the server refuses or the sandbox is lost; TransportError when the connection ends first.
   */
  async run(
    ref: string,
    body: ExecBody,
    sink: ExecSink,
    stdin?: ReadableStream<Uint8Array>,
  ): Promise<ExecOutcome> {
    const route = path`/sandboxes/${ref}/exec/stream`;
    let socket = await this.open(route);
    if (!socket) {
      // A failed handshake hides its reason: the same address asked plainly tells it, and waits for the rate limiter.
      const answer = await this.http.request("GET", route).catch((error: unknown) => error);
      if (!(answer instanceof ApiError && answer.status === 400))
        throw answer instanceof Error ? answer : this.lost("the server speaks no WebSocket here");
      socket = await this.open(route);
      if (!socket) throw this.lost("the connection was refused");
    }
    return this.converse(socket, body, sink, stdin);
  }

  /** Starts the command and leaves; its output goes to a file in the guest. */
  detach(
    ref: string,
    body: ExecBody & { output_file?: string },
  ): Promise<{ pid: number; output_file: string }> {
    return this.http.json("POST", path`/sandboxes/${ref}/exec`, {
      json: { ...body, detach: true },
      timeoutMs: 300_000,
    });
  }

  private open(route: string): Promise<WebSocket | undefined> {
    this.http.options.signal?.throwIfAborted();
    const headers = this.http.options.token ? { authorization: `Bearer ${this.http.options.token}` } : {};
    const socket = new WebSocket(this.http.base.replace(/^http/, "ws") + route, { headers });
    socket.binaryType = "arraybuffer";
    return new Promise((resolve) => {
      socket.onopen = () => resolve(socket);
      socket.onerror = () => resolve(undefined);
      socket.onclose = () => resolve(undefined);
    });
  }

  private converse(
    socket: WebSocket,
    body: ExecBody,
    sink: ExecSink,
    stdin: ReadableStream<Uint8Array> | undefined,
  ): Promise<ExecOutcome> {
    const { signal } = this.http.options;
    const abort = () => socket.terminate();
    const conversation = new Promise<ExecOutcome>((resolve, reject) => {
      socket.onclose = () =>
        reject(this.lost("the connection ended before the command did; the command was killed"));
      socket.onerror = () => {};
      socket.onmessage = ({ data }) => {
        try {
          if (typeof data !== "string") return output(new Uint8Array(data as ArrayBuffer), sink);
          const event = JSON.parse(data) as Record<string, unknown>;
          if (event.type === "ready") void forward(socket, stdin).catch(reject);
          else if (event.type === "exit") resolve({ exitCode: Number(event.exit_code), timedOut: false });
          else if (event.type === "error" && event.code === "timeout")
            resolve({ exitCode: 124, timedOut: true });
          else if (event.type === "error")
            reject(new ApiError(500, String(event.data ?? "failed"), String(event.code ?? "guest_failed")));
        } catch (error) {
          reject(error);
        }
      };
      signal?.addEventListener("abort", abort);
      socket.send(JSON.stringify(body));
    });
    return conversation.finally(() => {
      signal?.removeEventListener("abort", abort);
      socket.terminate();
    });
  }

  private lost(what: string): TransportError {
    return new TransportError(`${this.http.base}: ${what}`, "unreachable");
  }
}

function output(message: Uint8Array, sink: ExecSink): void {
  if (message[0] === STDOUT) sink.stdout(message.subarray(1));
  else if (message[0] === STDERR) sink.stderr(message.subarray(1));
}

/** Sends stdin and its end. Waits while the socket is behind. Ends early when the socket closes. */
async function forward(socket: WebSocket, stdin: ReadableStream<Uint8Array> | undefined): Promise<void> {
  if (stdin) {
    for await (const chunk of stdin as unknown as AsyncIterable<Uint8Array<ArrayBuffer>>) {
      for (let at = 0; at < chunk.length; at += STDIN_CHUNK) {
        while (socket.bufferedAmount > STDIN_BUFFERED && socket.readyState === WebSocket.OPEN)
          await Bun.sleep(5);
        if (socket.readyState !== WebSocket.OPEN) return;
        socket.send(chunk.subarray(at, at + STDIN_CHUNK));
      }
    }
  }
  if (socket.readyState === WebSocket.OPEN) socket.send('{"type":"stdin_eof"}');
}
