/** From a request body to what the agent is asked for, and back from its refusals. */
import { type ExecRequest, GuestError } from "../guest/guest.ts";
import type { ExecBody } from "./schemas.ts";

const DEFAULT_TIMEOUT_S = 300;

export function toExec(body: ExecBody): ExecRequest {
  const bytes =
    body.stdin_b64 !== undefined
      ? Buffer.from(body.stdin_b64, "base64")
      : body.stdin !== undefined
        ? Buffer.from(body.stdin)
        : null;
  return {
    argv: body.cmd,
    env: body.env,
    cwd: body.cwd,
    uid: body.user === "root" ? 0 : 1000,
    timeoutMs: (body.timeout_sec ?? DEFAULT_TIMEOUT_S) * 1000,
    ...(bytes ? { stdin: new Blob([bytes]).stream() } : {}),
  };
}

/** A command that cannot be started has a shell's exit code and says why on stderr. */
export function notStarted(error: unknown): { exitCode: number; message: string } | null {
  if (!(error instanceof GuestError)) return null;
  if (error.code === "exec_not_found") return { exitCode: 127, message: error.message };
  if (error.code === "exec_not_executable") return { exitCode: 126, message: error.message };
  return null;
}
