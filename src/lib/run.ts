/** Runs a program to its end. */

export class CommandError extends Error {
  constructor(
    readonly command: string[],
    readonly code: number,
    readonly stderr: string,
  ) {
    super(`${command[0]} failed (${code}): ${stderr.trim().slice(-2000)}`);
    this.name = "CommandError";
  }
}

export interface RunOptions {
  stdin?: string;
  signal?: AbortSignal;
  env?: Record<string, string>;
  cwd?: string;
  /** An open file that the program, and whatever it starts, keeps open as its fd 3. */
  inherit?: number;
}

/** stdout of the program; throws CommandError when it does not exit 0. Arguments are never a shell's. */
export async function run(command: string[], options: RunOptions = {}): Promise<string> {
  const child = Bun.spawn(command, {
    stdio: [
      options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
      "pipe",
      "pipe",
      ...(options.inherit === undefined ? [] : [options.inherit]),
    ],
    ...(options.signal ? { signal: options.signal } : {}),
    ...(options.env ? { env: { ...process.env, ...options.env } } : {}),
    ...(options.cwd ? { cwd: options.cwd } : {}),
  });
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) {
    options.signal?.throwIfAborted();
    throw new CommandError(command, code, stderr);
  }
  return stdout;
}
