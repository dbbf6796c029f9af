/** Looks for words in files of any size: disks and memories are gigabytes, most of them holes. */
import { readdirSync, statSync } from "node:fs";

/** Whether the file holds one of the words. Its memory stays small: lines end with NUL, and holes are skipped. */
export function holds(path: string, words: string[]): boolean {
  const grep = Bun.spawnSync(["grep", "-qzaF", "-f", "-", "--", path], {
    stdin: Buffer.from(`${words.join("\n")}\n`),
    stdout: "ignore",
    stderr: "ignore",
    env: { PATH: process.env.PATH!, LC_ALL: "C" },
  });
  return grep.exitCode === 0;
}

/** Files below `dir` that hold one of the words, except where `skip` matches the path. */
export function holders(dir: string, words: string[], skip = /^$/): string[] {
  const found: string[] = [];
  for (const name of readdirSync(dir)) {
    const path = `${dir}/${name}`;
    const facts = skip.test(path) ? undefined : statSync(path, { throwIfNoEntry: false });
    if (facts?.isDirectory()) found.push(...holders(path, words, skip));
    else if (facts?.isFile() && holds(path, words)) found.push(path);
  }
  return found;
}
