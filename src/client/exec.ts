import { ApiError } from "./error.ts";
import { converse, lost, open } from "./exec-stream.ts";
import type { ExecBody, ExecOutcome, ExecSink } from "./exec-types.ts";
import { type Http, path } from "./http.ts";

/** Commands in a sandbox: live over a WebSocket, or detached. */
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
    let socket = await open(this.http, route);
    if (!socket) {
      // A failed handshake hides its reason: the same address asked plainly tells it, and waits for the rate limiter.
      const answer = await this.http.request("GET", route).catch((error: unknown) => error);
      if (!(answer instanceof ApiError && answer.status === 400))
        throw answer instanceof Error ? answer : lost(this.http, "the server speaks no WebSocket here");
      socket = await open(this.http, route);
      if (!socket) throw lost(this.http, "the connection was refused");
    }
    return converse(this.http, socket, body, sink, stdin);
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
}
