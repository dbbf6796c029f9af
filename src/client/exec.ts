import { TransportError } from "./error.ts";
import { type Http, path } from "./http.ts";
import { ndjson } from "./ndjson.ts";

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

/** The sandbox may wake first, so headers may take minutes; the command itself is bounded by its own timeout only. */
const START_MS = 0;

export class ExecClient {
  constructor(private readonly http: Http) {}

  /** Output as it comes. @throws TransportError when the stream ends without a word on how the command ended. */
  async run(
    ref: string,
    body: ExecBody,
    sink: ExecSink,
    _stdin?: ReadableStream<Uint8Array>,
  ): Promise<ExecOutcome> {
    const response = await this.http.request("POST", path`/sandboxes/${ref}/exec`, {
      json: body,
      headers: { accept: "application/x-ndjson" },
      timeoutMs: START_MS,
    });
    const utf8 = new TextEncoder();
    for await (const event of ndjson(response.body ?? new ReadableStream())) {
      if (event.type === "stdout") sink.stdout(utf8.encode(String(event.data ?? "")));
      else if (event.type === "stderr") sink.stderr(utf8.encode(String(event.data ?? "")));
      else if (event.type === "exit")
        return { exitCode: Number(event.exit_code), timedOut: event.timed_out === true };
      else if (event.type === "error")
        return {
          exitCode: 125,
          timedOut: event.code === "timeout",
          code: typeof event.code === "string" ? event.code : undefined,
          error: String(event.data ?? event.error ?? "failed"),
        };
    }
    throw new TransportError("the connection ended before the command did; it was stopped", "unreachable");
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
