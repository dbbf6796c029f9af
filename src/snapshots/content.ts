/** Whether the contents of a snapshot's files are what they were: every byte is read. */
import { lstat } from "node:fs/promises";
import { sha256 } from "../lib/hash.ts";
import { CommandError } from "../lib/run.ts";
import { type DigestOptions, digests, type FileFacts, type FileName, type PathOf } from "./files.ts";
import type { SnapshotRow } from "./rows.ts";
import type { FileReport } from "./service.ts";

export interface Content {
  files: FileReport[];
  /** Hashes and stored bytes as they are now, of the files that could be read. */
  found: Awaited<ReturnType<typeof digests>>;
}

/**
 * Reads all files; `found` has their hashes, for `compare`. A file that is not there, has another size, or has no hash yet and
 * was touched since its making, is damaged without being read. @throws the reason of `options.signal`; damage is no error.
 */
export async function readContent(
  row: Pick<SnapshotRow, "files" | "state_sha256">,
  at: PathOf,
  lohar: string,
  options: DigestOptions = {},
): Promise<Content> {
  const facts = JSON.parse(row.files) as Record<string, FileFacts>;
  const names = Object.keys(facts) as FileName[];
  const sizes = await Promise.all(names.map((name) => lstat(at(name)).catch(() => null)));
  const stored = sizes.map((s) => (s ? Math.min(s.blocks * 512, s.size) : 0));
  const of = stored.reduce((sum, bytes) => sum + bytes, 0);
  let before = 0;
  const content: Content = { files: [], found: {} };
  for (const [i, name] of names.entries()) {
    const known = facts[name]!;
    const s = sizes[i];
    const report: FileReport = { name, size: known.size, sha256: known.digest ?? null, damage: null };
    content.files.push(report);
    if (!s?.isFile()) report.damage = "is missing";
    else if (s.size !== known.size) report.damage = `has ${s.size} bytes instead of ${known.size}`;
    else if (!known.digest && s.mtimeMs !== known.mtimeMs) report.damage = "was changed";
    else if (name === "state" && (await sha256(at(name))) !== row.state_sha256) report.damage = "was changed";
    if (report.damage) continue;
    try {
      const progress = (read: number) => options.progress?.(Math.min(before + read, of), of);
      content.found[name] = (await digests(lohar, at, [name], { ...options, progress }))[name]!;
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      report.damage = `cannot be read: ${error.stderr.trim().split(": ").at(-1)}`;
    }
    before += stored[i]!;
  }
  return content;
}

/** Compares with the hashes in `facts`, and notes there those that were not known. */
export function compare({ files, found }: Content, facts: Record<string, FileFacts>): void {
  for (const report of files) {
    const now = found[report.name]?.sha256;
    if (!now) continue;
    facts[report.name]!.digest ??= now;
    report.sha256 = facts[report.name]!.digest!;
    if (report.sha256 !== now) report.damage = "was changed";
  }
}
