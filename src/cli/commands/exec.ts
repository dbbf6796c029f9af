import { Option } from "commander";
import { collect, seconds } from "../base/parse.ts";
import { define, options } from "../base/program.ts";
import { type ExecFlags, execInSandbox, MAX_TIMEOUT_S } from "./exec-run.ts";

const WITH_VALUE = new Set([
  "--url",
  "--token",
  "--timeout",
  "--env",
  "-e",
  "--env-file",
  "--cwd",
  "-u",
  "--user",
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
    .option(
      "--timeout <time>",
      "kill it after this: 30 (seconds), 5m, 2h; at most a day, which is also 'never' (5m)",
      seconds("--timeout", MAX_TIMEOUT_S),
    )
    .option("-d, --detach", "start it in the background; prints pid and file of its output")
    .option("--output-file <path>", "with --detach: file in the sandbox for its output")
    .option("-e, --env <NAME=value>", "environment variable (repeatable)", collect)
    .option("--env-file <file>", "NAME=value lines, taken literally (repeatable)", collect)
    .option("-w, --cwd <dir>", "directory to start in")
    .addOption(new Option("-u, --user <user>", "who runs it (lohar)").choices(["lohar", "root"]))
    .option("-n, --no-stdin", "empty stdin, as for loops that read a list")
    .action(async (sandbox: string, cmd: string[], _flags, self) => {
      await execInSandbox(sandbox, cmd, options<ExecFlags>(self));
    });
