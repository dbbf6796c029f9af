/** Runs a command in a sandbox; everything of `bhatti exec` but its flags' grammar, whose parser costs as much as the rest. */
import { fstatSync, readFileSync } from "node:fs";
import { ApiError, TransportError } from "../../client/error.ts";
import { connect } from "../base/context.ts";
import { CliError, EXIT, Exit } from "../base/errors.ts";
import { clean, isTty, jsonMode, printJson, say, write } from "../base/output.ts";
import { envFile, environment } from "../base/parse.ts";
import type { Globals } from "../base/program.ts";

export interface ExecFlags extends Globals {
  timeout?: number;
  detach?: boolean;
  stdin: boolean;
  env?: string[];
  envFile?: string[];
  cwd?: string;
  user?: "lohar" | "root";
  outputFile?: string;
}

/** A day: what the server takes at most. */
export const MAX_TIMEOUT_S = 86_400;

/** Ends with the command's status (Exit), or an error with status 125. */
export async function execInSandbox(sandbox: string, cmd: string[], flags: ExecFlags): Promise<void> {
  try {
    await execute(sandbox, cmd, flags);
  } catch (error) {
    throw asExecFailure(error);
  }
}

async function execute(sandbox: string, cmd: string[], flags: ExecFlags): Promise<void> {
  let env: Record<string, string> = {};
  for (const file of flags.envFile ?? [])
    env = { ...env, ...envFile("--env-file", readFileSync(file, "utf8")) };
  env = { ...env, ...environment("--env", flags.env) };
  const body = {
    cmd,
    // 0 is "never"; the server knows no longer time than a day.
    timeout_sec: flags.timeout === 0 ? MAX_TIMEOUT_S : flags.timeout,
    env: Object.keys(env).length > 0 ? env : undefined,
    cwd: flags.cwd,
    user: flags.user,
  };
  const client = connect(flags);
  if (flags.detach) {
    const started = await client.exec.detach(sandbox, { ...body, output_file: flags.outputFile });
    // It has only begun: there is no status yet.
    if (printJson({ pid: started.pid, output_file: started.output_file, detached: true })) return;
    say(`pid: ${started.pid}`);
    say(`output: ${clean(started.output_file)}`);
    return;
  }
  const capture = jsonMode() ? new (await import("./exec-capture.ts")).ExecCapture() : undefined;
  const outcome = await client.exec.run(
    sandbox,
    body,
    capture ?? { stdout: (chunk) => write(1, chunk), stderr: (chunk) => write(2, chunk) },
    flags.stdin && forwardsStdin() ? Bun.stdin.stream() : undefined,
  );
  if (capture) printJson(capture.result(outcome));
  if (outcome.timedOut) {
    if (!capture) write(2, `error: timed out after ${flags.timeout || 300} s; the command was killed\n`);
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

/** Status 1 is the remote command's to give: whatever fails here leaves with 125. */
function asExecFailure(error: unknown): unknown {
  if (error instanceof ApiError || error instanceof TransportError)
    return Object.assign(error, { exit: EXIT.execFailed });
  if (error instanceof CliError && error.exit === EXIT.failure)
    return new CliError(error.message, { ...error.options, exit: EXIT.execFailed });
  if (error instanceof Exit || error instanceof CliError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new CliError(message, { code: "internal", exit: EXIT.execFailed, cause: error });
}
