/** Names of sandboxes for completion, in a small file that commands keep up to date. */
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { home } from "./config.ts";

const FRESH_MS = 5000;

const cacheFile = (url: string) =>
  join(process.env.XDG_CACHE_HOME || join(home(), ".cache"), "bhatti", `names-${Bun.hash(url).toString(16)}`);

export function readNames(url: string): { names: string[]; fresh: boolean } | undefined {
  try {
    const file = cacheFile(url);
    const fresh = Date.now() - statSync(file).mtimeMs < FRESH_MS;
    return { names: readFileSync(file, "utf8").split("\n").filter(Boolean), fresh };
  } catch {
    return undefined;
  }
}

/** Remembers the names for completion. Failures are of no consequence. */
export function writeNames(url: string, names: string[]): void {
  // Under sudo the file would belong to root and never be refreshed.
  if (process.env.SUDO_USER && process.getuid?.() === 0) return;
  try {
    const file = cacheFile(url);
    mkdirSync(join(file, ".."), { recursive: true, mode: 0o700 });
    const temporary = `${file}.${process.pid}`;
    writeFileSync(temporary, names.join("\n"), { mode: 0o600 });
    renameSync(temporary, file);
  } catch {
    // read-only home, full disk: completion asks the server then
  }
}

const change = (url: string, edit: (names: string[]) => string[]): void => {
  const cached = readNames(url);
  if (cached) writeNames(url, edit(cached.names));
};

export const addToCache = (url: string, ...names: string[]) =>
  change(url, (all) => [...new Set([...names, ...all])]);
export const removeFromCache = (url: string, name: string) =>
  change(url, (all) => all.filter((n) => n !== name));
export const renameInCache = (url: string, from: string, to: string) =>
  change(url, (all) => all.map((n) => (n === from ? to : n)));
