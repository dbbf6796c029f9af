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

export const usage = (message: string, remedy?: string) =>
  new CliError(message, { code: "usage", exit: EXIT.usage, remedy });
