import { fstatSync, readFileSync } from "node:fs";
import { ApiError, TransportError } from "../client/error.ts";
import type { ExecOutcome } from "../client/exec.ts";
import { connect } from "./context.ts";
import { CliError, EXIT, Exit } from "./errors.ts";
import { ExecCapture } from "./exec-capture.ts";
import { clean, isTty, jsonMode, printJson, say, write } from "./output.ts";
import { collect, envFile, environment, seconds } from "./parse.ts";
import { define, options } from "./program.ts";

interface Flags {
  timeout?: number;
  detach?: boolean;
  stdin: boolean;
  env?: string[];
  envFile?: string[];
  cwd?: string;
  outputFile?: string;
}

const WITH_VALUE = new Set([
  "--url",
  "--token",
  "--timeout",
  "--env",
  "-e",
  "--env-file",
  "--cwd",
  "-w",
  "--output-file",
]);

/** Everything from the first word of the remote command on is the command's, flags included: puts `--` before it. */
export function prepare(args: string[]): string[] {
  let positionals = 0;
  for (let i = 0; i < args.length; i++) {
    const word = args[i]!;
    if (word === "--") return args;
    if (WITH_VALUE.has(word)) i++;
    else if (!word.startsWith("-") && ++positionals === 2)
      return [...args.slice(0, i), "--", ...args.slice(i)];
  }
  return args;
}

export const command = () =>
  define(
    "exec <sandbox> <command...>",
    `Run a command in a sandbox. stdin goes along when it is not a terminal; output comes back byte by byte; the status
is the command's own. A sleeping sandbox wakes. Ctrl-C and a lost connection kill the remote command.
Status 124: timed out, 125: bhatti failed, 126: cannot be executed, 127: no such command, 130: Ctrl-C.`,
    [
      "bhatti exec dev -- uname -a",
      "bhatti exec dev -- sh -c 'cd /workspace && make test'",
      "tar c src | bhatti exec dev --cwd /workspace -- tar x",
      "bhatti exec dev --timeout 5m -- ./long-job",
      "bhatti exec dev --detach -- ./server",
    ],
  )
    .option("--timeout <time>", "kill it after this: 30 (seconds), 5m, 2h", seconds("--timeout"))
    .option("-d, --detach", "start it in the background; prints pid and file of its output")
    .option("--output-file <path>", "with --detach: file in the sandbox for its output")
    .option("-e, --env <NAME=value>", "environment variable (repeatable)", collect)
    .option("--env-file <file>", "NAME=value lines, taken literally (repeatable)", collect)
    .option("-w, --cwd <dir>", "directory to start in")
    .option("-n, --no-stdin", "empty stdin, as for loops that read a list")
    .action(async (sandbox: string, cmd: string[], _flags, self) => {
      const flags = options<Flags>(self);
      try {
        await execute(sandbox, cmd, flags);
      } catch (error) {
        throw asExecFailure(error);
      }
    });

async function execute(
  sandbox: string,
  cmd: string[],
  flags: ReturnType<typeof options<Flags>>,
): Promise<void> {
  let env: Record<string, string> = {};
  for (const file of flags.envFile ?? [])
    env = { ...env, ...envFile("--env-file", readFileSync(file, "utf8")) };
  env = { ...env, ...environment("--env", flags.env) };
  const body = {
    cmd,
    timeout_sec: flags.timeout || undefined,
    env: Object.keys(env).length > 0 ? env : undefined,
    cwd: flags.cwd,
  };
  const client = connect(flags);
  if (flags.detach) {
    const started = await client.exec.detach(sandbox, { ...body, output_file: flags.outputFile });
    const six = { exit_code: 0, stdout: "", stderr: "", ...started, detached: true };
    if (printJson(six)) return;
    say(`pid: ${started.pid}`);
    say(`output: ${clean(started.output_file)}`);
    return;
  }
  const capture = jsonMode() ? new ExecCapture() : undefined;
  const outcome = await client.exec.run(
    sandbox,
    body,
    capture ?? { stdout: (chunk) => write(1, chunk), stderr: (chunk) => write(2, chunk) },
    flags.stdin && forwardsStdin() ? Bun.stdin.stream() : undefined,
  );
  if (outcome.error !== undefined) throw failure(outcome, cmd);
  if (capture) printJson(capture.result(outcome));
  if (outcome.timedOut) {
    if (!capture)
      write(
        2,
        `error: timed out${flags.timeout ? ` after ${flags.timeout} s` : ""}; the command was killed\n`,
      );
    throw new Exit(EXIT.timeout);
  }
  throw new Exit(outcome.exitCode);
}

/** A terminal is for the person; /dev/null has nothing; a closed descriptor neither. */
function forwardsStdin(): boolean {
  if (isTty(0)) return false;
  try {
    const stat = fstatSync(0);
    const devNull = 0x103;
    return !(stat.isCharacterDevice() && stat.rdev === devNull);
  } catch {
    return false;
  }
}

function failure(outcome: ExecOutcome, cmd: string[]): CliError {
  const name = cmd[0] ?? "";
  if (outcome.code === "exec_not_found")
    return new CliError(`${name}: command not found in the sandbox`, {
      code: outcome.code,
      exit: EXIT.commandNotFound,
    });
  if (outcome.code === "exec_not_executable")
    return new CliError(`${name}: cannot be executed`, { code: outcome.code, exit: EXIT.notExecutable });
  if (outcome.code === "timeout")
    return new CliError(`timed out; the command was killed`, { code: "timeout", exit: EXIT.timeout });
  return new CliError(outcome.error ?? "failed", {
    code: outcome.code ?? "guest_failed",
    exit: EXIT.execFailed,
  });
}

/** Status 1 is the remote command's to give: whatever fails here leaves with 125. */
function asExecFailure(error: unknown): unknown {
  if (error instanceof ApiError || error instanceof TransportError)
    return Object.assign(error, { exit: EXIT.execFailed });
  if (error instanceof CliError && error.exit === EXIT.failure)
    return new CliError(error.message, { ...error.options, exit: EXIT.execFailed });
  return error;
}
