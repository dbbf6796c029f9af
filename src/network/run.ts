/** Runs the host's network tools. */
import { CommandError, run as runTool } from "../lib/run.ts";

/** Where the tools are looked for, whatever PATH the daemon was started with. */
export const TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

const DEADLINE_MS = 30_000;

let inherited: number | null = null;

/** An open file that every program run from now on keeps open; null: none. */
export function inherit(fd: number | null): void {
  inherited = fd;
}

/**
 * Runs `argv` with `input` on stdin and returns stdout. Throws CommandError with the tool's own words when it fails, and
 * when it takes longer than 30 s. `tolerant`: a non-zero exit status is not an error; the result is then empty.
 */
export async function run(argv: string[], input = "", options: { tolerant?: boolean } = {}): Promise<string> {
  try {
    return await runTool(argv, {
      stdin: input,
      env: { PATH: TOOL_PATH, LC_ALL: "C" },
      signal: AbortSignal.timeout(DEADLINE_MS),
      ...(inherited === null ? {} : { inherit: inherited }),
    });
  } catch (error) {
    if (options.tolerant && error instanceof CommandError) return "";
    throw error;
  }
}

/** One `ip -batch` in the host's namespace. */
export const ip = (lines: string[]): Promise<string> => run(["ip", "-batch", "-"], `${lines.join("\n")}\n`);

/** The same, going on after lines that fail: for removals, whose result the caller checks. */
export const ipForce = (lines: string[]): Promise<string> =>
  run(["ip", "-force", "-batch", "-"], `${lines.join("\n")}\n`, { tolerant: true });

/** Runs a shell script inside a namespace. The script comes on stdin; nothing of it is in argv. */
export const inNetns = (netns: string, script: string): Promise<string> =>
  run(["nsenter", `--net=/run/netns/${netns}`, "sh", "-es"], script);
