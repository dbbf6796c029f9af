/** What `lohar jail`, which starts every VMM, is told and answers. */
import { stat } from "node:fs/promises";
import { EngineError, type VmSpec } from "../engine.ts";

/**
 * How large a file the VMM may make, bytes: its memory, and its disks with what they may grow to. The host looks at these
 * files; a VMM must not make it see terabytes.
 */
export async function largestFile({ shape, drives }: VmSpec): Promise<number> {
  const sizes = drives.map(({ path, readOnly }) => (readOnly ? 0 : stat(path).then(({ size }) => size)));
  const growth = drives.map(({ maxBytes }) => maxBytes ?? 0);
  return Math.max(shape.memoryMib * 1024 * 1024, ...growth, ...(await Promise.all(sizes)));
}

/** The first line of the keeper: the VMM's pid, or why there is none. */
export async function pidFrom(stdout: ReadableStream<Uint8Array>): Promise<number> {
  const line = (await new Response(stdout).text()).trim();
  if (!/^\d+$/.test(line)) throw new EngineError(`the jail was not built: ${line || "no reason given"}`);
  return Number(line);
}

/** Starts a keeper. It and its VMM outlive the daemon: they must not die with it, nor keep it from ending. */
export function startKeeper(command: string[]) {
  const keeper = Bun.spawn(command, {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "ignore",
    env: { GOMAXPROCS: "1" },
    detached: true,
  });
  keeper.unref();
  return keeper;
}
