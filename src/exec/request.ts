/** From a request body to what the agent is asked for, and back from its refusals. */
import { type ExecRequest, GuestError } from "../guest/guest.ts";
import { badRequest } from "../lib/errors.ts";
import type { ExecBody } from "./schemas.ts";

const DEFAULT_TIMEOUT_S = 300;
const MAX_TIMEOUT_S = 86_400;

/** Throws bad_request. */
export function toExec(body: ExecBody): ExecRequest {
  if (!body.cmd || body.cmd.length === 0) throw badRequest("cmd required");
  if (body.cmd.some((arg) => arg.includes("\0"))) throw badRequest("cmd contains NUL");
  if (body.cwd && !body.cwd.startsWith("/")) throw badRequest("cwd must be an absolute path");
  const seconds = body.timeout_sec ?? DEFAULT_TIMEOUT_S;
  const valid = Number.isInteger(seconds) && seconds >= 1 && seconds <= MAX_TIMEOUT_S;
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
    timeoutMs: (valid ? seconds : DEFAULT_TIMEOUT_S) * 1000,
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
