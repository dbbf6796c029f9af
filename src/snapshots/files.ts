/** The files of a snapshot, and how damage to them is noticed before anybody boots from them. */
import { chmod, lstat } from "node:fs/promises";
import { lines } from "../lib/lines.ts";
import { CommandError } from "../lib/run.ts";

export interface FileFacts {
  size: number;
  mtimeMs: number;
  /** Known of imported files: see `digests`. */
  digest?: string;
}

export type FileName = "mem" | "state" | "disk";

/** Where a file of a snapshot is: its memory lies in the reserve, or moved out beside the others. */
export type PathOf = (name: string) => string;

/** In the order of an archive: what a cold import wants comes first. */
export const namesOf = (kind: "memory" | "disk"): FileName[] =>
  kind === "memory" ? ["disk", "state", "mem"] : ["disk"];

/**
 * Takes away write permission and notes what the files look like. A VMM can make its files as large as it likes: `memoryMb`
 * is what the memory must have. @throws Error when a file is not what it should be.
 */
export async function seal(
  at: PathOf,
  kind: "memory" | "disk",
  memoryMb: number,
): Promise<Record<string, FileFacts>> {
  const facts: Record<string, FileFacts> = {};
  for (const name of namesOf(kind)) {
    await chmod(at(name), 0o400);
    const s = await lstat(at(name));
    if (!s.isFile() || s.nlink !== 1) throw new Error(`${name} is not a plain file`);
    if (name === "mem" && s.size !== memoryMb * 1048576)
      throw new Error("mem has another size than the memory");
    facts[name] = { size: s.size, mtimeMs: s.mtimeMs };
  }
  return facts;
}

export interface DigestOptions {
  signal?: AbortSignal;
  /** Behind everybody else who wants CPU or disk, and without a trace in the page cache. */
  background?: boolean;
  /** Told now and then, bytes of all files; `of` is an estimate that can grow. */
  progress?(read: number, of: number): void;
}

/**
 * Size, stored bytes and hash of files, by name: in a child, so that the daemon goes on and `signal` ends it. Holes cost
 * nothing; the hash is that of lohar/internal/archive/digest.go. @throws Error when one cannot be read.
 */
export async function digests(
  lohar: string,
  at: PathOf,
  names: FileName[],
  { signal, background, progress }: DigestOptions = {},
): Promise<Record<string, { size: number; data: number; sha256: string }>> {
  signal?.throwIfAborted();
  const command = [lohar, "archive", "digest", ...(background ? ["-background"] : []), ...names.map(at)];
  const child = Bun.spawn(command, {
    ...{ stdin: "ignore", stdout: "pipe", stderr: "pipe", killSignal: "SIGKILL" },
    ...(signal ? { signal } : {}),
  });
  const errors = new Response(child.stderr).text();
  let facts: Record<string, { size: number; data: number; sha256: string }> | undefined;
  for await (const line of lines(child.stdout)) {
    const told = JSON.parse(line);
    if (typeof told.of === "number") progress?.(told.read, told.of);
    else facts = told;
  }
  const code = await child.exited;
  signal?.throwIfAborted();
  if (code !== 0 || !facts) throw new CommandError(command, code, await errors);
  return facts;
}

/**
 * What is wrong with the files, for people; null when nothing is. An untouched file is trusted; a touched one only when its
 * hash is known and right: hashing gigabytes at every snapshot would cost more than it is worth.
 */
export async function damage(
  at: PathOf,
  facts: Record<string, FileFacts>,
  lohar: string,
): Promise<string | null> {
  for (const [name, known] of Object.entries(facts)) {
    const s = await lstat(at(name)).catch(() => null);
    if (!s?.isFile()) return `${name} is missing`;
    if (s.size !== known.size) return `${name} is truncated`;
    if (s.mtimeMs === known.mtimeMs) continue;
    const now = known.digest && (await digests(lohar, at, [name as FileName]))[name]?.sha256;
    if (!now || now !== known.digest) return `${name} was changed`;
  }
  return null;
}
