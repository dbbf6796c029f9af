import { AppError, type ErrorCode } from "../lib/errors.ts";
import type { GuestError } from "./guest.ts";

const CODES: Record<string, ErrorCode> = {
  not_found: "not_found",
  is_a_directory: "bad_request",
  not_a_directory: "bad_request",
  bad_request: "bad_request",
  permission: "forbidden",
  too_large: "too_large",
  no_space: "disk_full",
  busy: "unavailable",
  timeout: "timeout",
  connection_refused: "unavailable",
  exec_not_found: "bad_request",
  exec_not_executable: "bad_request",
};

/** What the agent reports, for people. Its own faults and lost connections stay vague: the log has them. */
export function guestErrorToApp(error: GuestError): AppError {
  const code = CODES[error.code];
  if (code) return new AppError(code, error.message, { cause: error });
  return new AppError(
    "guest_failed",
    error.code === "lost" ? "the sandbox's agent cannot be reached" : "the sandbox's agent failed",
    { cause: error },
  );
}
