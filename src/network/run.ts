/** Runs the host's network tools. */

/** Where the tools are looked for, whatever PATH the daemon was started with. */
export const TOOL_PATH = "/usr/sbin:/usr/bin:/sbin:/bin";

const DEADLINE_MS = 30_000;

/**
 * Runs `argv` with `input` on stdin and returns stdout. Throws an Error with the tool's own words when it fails or takes
 * longer than 30 s. `tolerant`: a non-zero exit status is not an error.
 */
export async function run(argv: string[], input = "", options: { tolerant?: boolean } = {}): Promise<string> {
  const child = Bun.spawn(argv, {
    stdin: new TextEncoder().encode(input),
    stdout: "pipe",
    stderr: "pipe",
    timeout: DEADLINE_MS,
    killSignal: "SIGKILL",
    env: { PATH: TOOL_PATH, LC_ALL: "C" },
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0 && !options.tolerant) {
    throw new Error(`${argv.slice(0, 3).join(" ")} failed (${code}): ${err.trim().slice(0, 1000)}`);
  }
  return out;
}

/** One `ip -batch` in the host's namespace. */
export const ip = (lines: string[]): Promise<string> => run(["ip", "-batch", "-"], `${lines.join("\n")}\n`);

/** The same, going on after lines that fail: for removals, whose result the caller checks. */
export const ipForce = (lines: string[]): Promise<string> =>
  run(["ip", "-force", "-batch", "-"], `${lines.join("\n")}\n`, { tolerant: true });

/** Runs a shell script inside a namespace. The script comes on stdin; nothing of it is in argv. */
export const inNetns = (netns: string, script: string): Promise<string> =>
  run(["nsenter", `--net=/run/netns/${netns}`, "sh", "-es"], script);
