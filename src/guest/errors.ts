/** What the agent reports, for people: named after the thing it is about, with what to do. */
import { AppError, type ErrorCode } from "../lib/errors.ts";
import { GuestError } from "./guest.ts";

const CODES: Record<string, ErrorCode> = {
  not_found: "not_found",
  is_a_directory: "bad_request",
  not_a_file: "bad_request",
  not_a_directory: "bad_request",
  bad_request: "bad_request",
  permission: "forbidden",
  too_large: "too_large",
  no_space: "disk_full",
  busy: "unavailable",
  exhausted: "unavailable",
  timeout: "timeout",
  connection_refused: "unavailable",
  exec_not_found: "bad_request",
  exec_not_executable: "bad_request",
};

/** Nothing was heard: no answer in time, no heartbeat, or a connection that ended. */
export const isSilence = (error: unknown): boolean =>
  error instanceof GuestError
    ? error.code === "lost" || error.code === "guest_unresponsive"
    : error instanceof DOMException && error.name === "TimeoutError";

/** What a request was about. `sandbox`: as its caller names it. */
export interface About {
  sandbox: string;
  /** Of a file. */
  path?: string;
  /** Of a command. */
  cwd?: string;
  /** User of a command. */
  user?: string;
  /** Of a detached command. */
  outputFile?: string;
}

/** Its own faults and lost connections stay vague: the log has them. */
export function guestErrorToApp(error: GuestError, about?: About): AppError {
  const code = CODES[error.code];
  if (!code) return lostAgent(error, about);
  // The agent says of a working directory that it is one; what else is missing then is the file for the output.
  const file = about?.path ?? (error.message.startsWith("working directory") ? undefined : about?.outputFile);
  const said = about && (file ? ofFile(error, about, file) : ofCommand(error, about));
  const [message, remedy] = said ?? [error.message, undefined];
  return new AppError(code, message, {
    cause: error,
    remedy,
    retryAfter: error.code === "busy" ? 1 : undefined,
  });
}

/** Any error of a request about a guest: the agent's become AppErrors that name it, others stay. */
export const named = (error: unknown, about: About): unknown =>
  error instanceof GuestError ? guestErrorToApp(error, about) : error;

/** What is wrong with the agent itself. */
function lostAgent(error: GuestError, about?: About): AppError {
  const whose = about ? `sandbox "${about.sandbox}"` : "the sandbox";
  const anew = `bhatti restart${about ? ` ${about.sandbox}` : ""} boots it from its disk`;
  const guest = (message: string, remedy = `if it stays so, ${anew}`) =>
    new AppError("guest_failed", message, { cause: error, remedy });
  switch (error.code) {
    case "guest_unresponsive":
      return new AppError("guest_unresponsive", error.message, {
        cause: error,
        remedy: `the network of ${whose} may be down, or the machine hangs: if it stays so, ${anew}`,
      });
    case "configure_failed":
      return guest(`${whose} could not take its identity: ${error.message}`);
    case "impostor":
      return guest(
        `something else than the agent of ${whose} answers on its port 1024`,
        `a program inside has taken the agent's port: ${anew}`,
      );
    case "lost":
      return guest(`the agent of ${whose} cannot be reached`);
    case "io": // names the file and what the guest's kernel said
      return guest(error.message);
  }
  return guest(`the agent of ${whose} failed`);
}

type Said = [message: string, remedy: string];

function ofFile({ code, message }: GuestError, { sandbox }: About, file: string): Said | null {
  const parent = word(file.replace(/\/[^/]*\/*$/, "") || "/");
  const path = word(file);
  const inside = `in sandbox "${sandbox}"`;
  switch (code) {
    case "not_found":
      return [
        `no such file or directory ${inside}: ${path}`,
        `bhatti file ls ${sandbox} ${parent} shows what is there`,
      ];
    case "is_a_directory":
      return [`${path} is a directory ${inside}`, `bhatti file ls ${sandbox} ${path} lists it`];
    case "not_a_directory":
      return [
        `${path} is not a directory, or leads through a file, ${inside}`,
        `bhatti file stat ${sandbox} ${parent}`,
      ];
    case "permission":
      return readOnly(message)
        ? [
            `${path} is on a read-only file system ${inside}`,
            `bhatti exec ${sandbox} -- findmnt -T ${path} shows which`,
          ]
        : [
            `permission denied by the guest ${inside}: ${path}`,
            `bhatti exec -u root ${sandbox} -- ls -ld ${path} shows whose it is`,
          ];
    case "no_space":
      return [
        `the disk of sandbox "${sandbox}" is full: ${path}`,
        `bhatti exec ${sandbox} -- df -h shows what is used`,
      ];
  }
  return null;
}

function ofCommand({ code, message }: GuestError, about: About): Said | null {
  const { sandbox, user = "lohar" } = about;
  const cwd = word(about.cwd ?? "/");
  const inside = `in sandbox "${sandbox}"`;
  switch (code) {
    // The command itself has codes of its own: these are about where it was to start.
    case "not_found":
      return [
        `working directory ${cwd} does not exist ${inside}`,
        `bhatti exec ${sandbox} -- mkdir -p ${cwd}`,
      ];
    case "not_a_directory":
      return [
        `working directory ${cwd} is not a directory ${inside}`,
        `name a directory: bhatti file ls ${sandbox} /`,
      ];
    case "permission":
      return [
        `working directory ${cwd} is closed to user ${user} ${inside}`,
        `bhatti exec -u root -w ${cwd} ${sandbox} -- <command> runs it as root`,
      ];
    case "too_large":
      return [
        `arguments and environment are too long for Linux ${inside} (128 KiB each, 2 MiB together)`,
        "send data on stdin or as a file, not as arguments",
      ];
    case "busy":
      return [`sandbox "${sandbox}" is about to be copied: ${message}`, "try again in a moment"];
  }
  return null;
}

/** As it is typed in a shell. */
const word = (text: string): string =>
  /^[\w./@:+,=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

const readOnly = (message: string): boolean => /read-only file system/i.test(message);
