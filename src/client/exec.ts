import { ApiError } from "./error.ts";
import { converse, lost, open } from "./exec-stream.ts";
import type { ExecBody, ExecOutcome, ExecSink } from "./exec-types.ts";
import { type Http, path } from "./http.ts";

/** Handshakes that are tried while the server lets plain requests through. */
const HANDSHAKES = 10;

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
    const socket = await this.connect(path`/sandboxes/${ref}/exec/stream`);
    return converse(this.http, socket, body, sink, stdin);
  }

  /**
   * A failed handshake hides its reason: the same address asked plainly tells it, and waits for the server's limits. When
   * the plain request is let through, the handshake is worth another try.
   */
  private async connect(route: string): Promise<WebSocket> {
    for (let attempt = 1; ; attempt++) {
      const socket = await open(this.http, route);
      if (socket) return socket;
      const answer = await this.http.request("GET", route).catch((error: unknown) => error);
      if (!(answer instanceof ApiError && answer.status === 400))
        throw answer instanceof Error ? answer : lost(this.http, "the server speaks no WebSocket here");
      if (attempt === HANDSHAKES) throw lost(this.http, "the WebSocket handshake failed");
      await Bun.sleep(50 * attempt * (1 + Math.random()));
    }
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
