import { isUtf8 } from "node:buffer";
import type { ExecOutcome, ExecSink } from "../../client/exec-types.ts";

/** As much output as `exec --json` holds in memory, bytes per stream. */
const LIMIT = 64 * 1024 * 1024;

/** Collects what a command prints for the one object of --json. */
export class ExecCapture implements ExecSink {
  private readonly parts: Record<"stdout" | "stderr", Uint8Array[]> = { stdout: [], stderr: [] };
  private readonly sizes = { stdout: 0, stderr: 0 };
  private truncated = false;

  stdout(chunk: Uint8Array): void {
    this.add("stdout", chunk);
  }

  stderr(chunk: Uint8Array): void {
    this.add("stderr", chunk);
  }

  private add(stream: "stdout" | "stderr", chunk: Uint8Array): void {
    const room = LIMIT - this.sizes[stream];
    if (chunk.length > room) this.truncated = true;
    if (room <= 0) return;
    const part = chunk.slice(0, room);
    this.parts[stream].push(part);
    this.sizes[stream] += part.length;
  }

  /** The members there always were but `pid`, which this side does not learn; base64 beside text that is not UTF-8; notes on what went wrong. */
  result(outcome: ExecOutcome): Record<string, unknown> {
    const out = Buffer.concat(this.parts.stdout);
    const err = Buffer.concat(this.parts.stderr);
    return {
      exit_code: outcome.timedOut ? 124 : outcome.exitCode,
      stdout: out.toString("utf8"),
      stderr: err.toString("utf8"),
      output_file: "",
      detached: false,
      ...(isUtf8(out) ? {} : { stdout_base64: out.toString("base64") }),
      ...(isUtf8(err) ? {} : { stderr_base64: err.toString("base64") }),
      ...(outcome.timedOut ? { timed_out: true } : {}),
      ...(this.truncated ? { truncated: true } : {}),
    };
  }
}
