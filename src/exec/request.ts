/** From a request body to what the agent is asked for, and back from its refusals. */
import { type About, named } from "../guest/errors.ts";
import { type ExecRequest, GuestError } from "../guest/guest.ts";
import { AppError } from "../lib/errors.ts";
import type { GuestLease } from "../sandboxes/service.ts";
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

/**
 * The request as its sandbox runs it: the secrets that it is given are variables of the command, below the
 * request's own. They travel with each command and are stored nowhere in the guest. The lease is given back on failure.
 */
export async function withSecrets(lease: GuestLease, request: ExecRequest): Promise<ExecRequest> {
  try {
    return { ...request, env: { ...(await lease.secretEnv()), ...request.env } };
  } catch (error) {
    lease.release();
    throw error;
  }
}

/** A command that cannot be started has a shell's exit code and says why on stderr. */
export function notStarted(error: unknown): { exitCode: number; message: string } | null {
  if (!(error instanceof GuestError)) return null;
  if (error.code === "exec_not_found") return { exitCode: 127, message: error.message };
  if (error.code === "exec_not_executable") return { exitCode: 126, message: error.message };
  return null;
}

/** For an answer without an exit code (detached): the same reasons as an error. */
export function notStartedError(error: unknown): AppError | null {
  const failed = notStarted(error);
  if (!failed) return null;
  return new AppError("bad_request", failed.message, {
    remedy: "the first word must be a program of the sandbox: its path, or a name that is in PATH",
    cause: error,
  });
}

export const aboutOf = (sandbox: string, body: ExecBody): About => ({
  sandbox,
  cwd: body.cwd,
  user: body.user,
  outputFile: body.output_file,
});

/** The members of an error event of a stream whose status has long been sent. */
export function told(error: unknown, about: About): { code: string; data: string; remedy?: string } {
  const known = named(error, about);
  if (known instanceof AppError) return { code: known.code, data: known.message, remedy: known.remedy };
  return { code: "internal", data: `the command could not be run in sandbox "${about.sandbox}"` };
}
