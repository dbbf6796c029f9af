import { TransportError } from "./error.ts";
import { execStream } from "./exec-stream.ts";
import { type Http, path } from "./http.ts";

export interface ExecBody {
  cmd: string[];
  /** Seconds; the command is killed when they have passed. */
  timeout_sec?: number;
  env?: Record<string, string>;
  cwd?: string;
}

export interface ExecSink {
  stdout(chunk: Uint8Array): void;
  stderr(chunk: Uint8Array): void;
}

export interface ExecOutcome {
  exitCode: number;
  timedOut: boolean;
  /** The command could not be started, or the guest was lost: why. */
  error?: string;
  /** With `error`: "exec_not_found", "exec_not_executable", "timeout", … */
  code?: string;
}

export class ExecClient {
  constructor(private readonly http: Http) {}

  /** Output as it comes. @throws TransportError when the stream ends without a word on how the command ended. */
  async run(
    ref: string,
    body: ExecBody,
    sink: ExecSink,
    stdin?: ReadableStream<Uint8Array>,
  ): Promise<ExecOutcome> {
    const at = path`/sandboxes/${ref}`;
    const { token, signal } = this.http.options;
    try {
      return await execStream(
        { url: `${this.http.base}${at}/exec/stream`, token, signal },
        body,
        sink,
        stdin,
      );
    } catch (error) {
      // A refused handshake does not say why; an ordinary request does.
      if (error instanceof TransportError && !signal?.aborted) await this.http.json("GET", at);
      throw error;
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
