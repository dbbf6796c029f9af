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

const guest = (message: string, cause: GuestError, remedy?: string) =>
  new AppError("guest_failed", message, { cause, remedy });

/** What the agent reports, for people. Its own faults and lost connections stay vague: the log has them. */
export function guestErrorToApp(error: GuestError): AppError {
  const code = CODES[error.code];
  if (code) return new AppError(code, error.message, { cause: error });
  switch (error.code) {
    case "guest_unresponsive":
      return new AppError("guest_unresponsive", error.message, {
        cause: error,
        remedy: "its network may be down, or the machine hangs: boot it from its disk if it stays so",
      });
    case "configure_failed":
      return guest(`the sandbox could not take its identity: ${error.message}`, error);
    case "impostor":
      return guest(
        "something else than the sandbox's agent answers on its port 1024",
        error,
        "a program inside has taken the agent's port: boot the sandbox from its disk",
      );
    case "lost":
      return guest("the sandbox's agent cannot be reached", error);
    case "io": // names the file and what the guest's kernel said
      return guest(error.message, error);
  }
  return guest("the sandbox's agent failed", error);
}
