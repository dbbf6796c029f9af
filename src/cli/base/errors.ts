/** A failure told to the person at the terminal: what, and what to do about it. */
export class CliError extends Error {
  constructor(
    message: string,
    readonly options: { code?: string; remedy?: string; exit?: number; cause?: unknown } = {},
  ) {
    super(message, { cause: options.cause });
    this.name = "CliError";
  }
  get exit(): number {
    return this.options.exit ?? EXIT.failure;
  }
}

/** Thrown to leave with a status and without a message (the message was printed, or there is none). */
export class Exit extends Error {
  constructor(readonly status: number) {
    super(`exit ${status}`);
  }
}

/** `exec` keeps 124–127 for itself, as timeout(1) and docker do: everything else is the command's own status. */
export const EXIT = {
  failure: 1,
  usage: 2,
  timeout: 124,
  execFailed: 125,
  notExecutable: 126,
  commandNotFound: 127,
  interrupted: 130,
  brokenPipe: 141,
} as const;

const WORDS: Record<string, string> = {
  EACCES: "permission denied",
  EDQUOT: "the disk quota is used up",
  EISDIR: "it is a directory",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "the name is too long",
  ENOENT: "no such file or directory",
  ENOSPC: "no space is left where it goes",
  ENOTDIR: "a part of the path is not a directory",
  EPERM: "not permitted",
  EROFS: "the file system is read-only",
};

/** Why the system refused, in words. */
export function reason(cause: unknown): string {
  const { code } = cause as NodeJS.ErrnoException;
  return (code && WORDS[code]) ?? code ?? String(cause);
}

/** A file of this machine that cannot be read or written. */
export const fileError = (what: "read" | "write", file: string, cause: unknown) =>
  new CliError(`cannot ${what} ${file}: ${reason(cause)}`, { cause });

export const usage = (message: string, remedy?: string) =>
  new CliError(message, { code: "usage", exit: EXIT.usage, remedy });
