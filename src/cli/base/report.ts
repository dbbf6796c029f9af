/** Failures on their way to stderr: one line of what, one of what to do; or one JSON object. */
import { ApiError, TransportError } from "../../client/error.ts";
import { AppError } from "../../lib/errors.ts";
import { CliError, EXIT } from "./errors.ts";
import { clean, dim, jsonMode, red, write } from "./output.ts";

interface Told {
  error: string;
  code: string;
  remedy?: string;
  request_id?: string;
  exit: number;
}

/** Prints the failure and returns the exit status. */
export async function report(error: unknown, argv: string[]): Promise<number> {
  const told = tell(error);
  // After a failed parse nobody has switched --json on yet. Words behind `--` are not ours.
  const end = argv.indexOf("--");
  const asked = (end < 0 ? argv : argv.slice(0, end)).includes("--json");
  if (jsonMode() || (told.code === "usage" && asked)) {
    const { exit, ...body } = told;
    write(2, `${JSON.stringify(body)}\n`);
    return exit;
  }
  const id = told.request_id ? dim(` (request ${clean(told.request_id)})`, 2) : "";
  write(2, `${red("error:", 2)} ${lines(told.error)}${id}\n`);
  if (told.remedy) write(2, `${dim("hint:", 2)}  ${lines(told.remedy)}\n`);
  if (process.env.BHATTI_DEBUG && error instanceof Error) write(2, `${error.stack}\n`);
  return told.exit;
}

/** Messages may have several lines; anything else that moves the cursor is made visible. */
const lines = (text: string) => text.split("\n").map(clean).join("\n       ");

function tell(error: unknown): Told {
  if (error instanceof CliError)
    return {
      error: error.message,
      code: error.options.code ?? "failed",
      remedy: error.options.remedy,
      exit: error.exit,
    };
  if (error instanceof ApiError)
    return {
      error: asFlag(error.message),
      code: error.code,
      remedy: error.remedy,
      request_id: error.requestId,
      exit: exitOf(error),
    };
  if (error instanceof TransportError)
    return {
      error: error.message,
      code: error.code,
      remedy: error.remedy,
      exit: exitOf(error),
    };
  if (error instanceof AppError)
    return { error: error.message, code: error.code, remedy: error.remedy, exit: EXIT.failure };
  return {
    error: error instanceof Error ? error.message : String(error),
    code: "internal",
    remedy: process.env.BHATTI_DEBUG ? undefined : "set BHATTI_DEBUG=1 for the details",
    exit: EXIT.failure,
  };
}

/** Members of request bodies under another name than their flag. */
const FLAGS: Record<string, string> = {
  memory_mb: "--memory",
  disk_size_mb: "--disk-size",
  cpus: "--cpus",
  labels: "--label",
  warm_after_s: "--warm-after",
  cold_after_s: "--cold-after",
};

/** The API says `memory_mb must be …`; who typed a flag looks for that. */
const asFlag = (message: string) => message.replace(/^\w+(?= must be )/, (word) => FLAGS[word] ?? word);

/** `exec` marks failures that must not look like the status of the remote command. */
const exitOf = (error: Error & { exit?: number }): number => error.exit ?? EXIT.failure;
