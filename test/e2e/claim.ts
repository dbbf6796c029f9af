/** Claims between test processes of one machine: who may use which network base, and who prepares what is shared. */
import { mkdirSync, readFileSync, rmdirSync, unlinkSync, writeFileSync } from "node:fs";

const DIR = "/run/bhatti-test";
/** Bases 1…200: subnets, uids and names of one test installation each; see network/names.ts. */
const BASES = 200;

/** Takes a network base that no living process holds; `release` gives it back. Names start with `prefix`. */
export function claimBase(): { base: number; prefix: string; release(): void } {
  mkdirSync(DIR, { recursive: true });
  for (let base = 1; base <= BASES; base++) {
    const file = fileOf(base);
    if (take(file)) return { base, prefix: prefixOf(base), release: () => unlinkSync(file) };
  }
  throw new Error(`all ${BASES} network bases of ${DIR} are taken`);
}

/** Bases that no living process holds, taken once or never. */
export function abandonedBases(): { base: number; prefix: string }[] {
  const all = Array.from({ length: BASES }, (_, i) => ({ base: i + 1, prefix: prefixOf(i + 1) }));
  return all.filter(({ base }) => {
    try {
      return !alive(Number(readFileSync(fileOf(base), "utf8")));
    } catch {
      return true;
    }
  });
}

const fileOf = (base: number) => `${DIR}/base-${base}`;

function prefixOf(base: number): string {
  const letter = (n: number) => String.fromCharCode(97 + (n % 26));
  return `t${letter(Math.floor(base / 26))}${letter(base)}`;
}

/** Runs `work` while no other process does the same under this name. */
export async function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
  mkdirSync(DIR, { recursive: true });
  const file = `${DIR}/${name.replaceAll("/", "_")}`;
  while (!take(file)) await Bun.sleep(200);
  try {
    return await work();
  } finally {
    unlinkSync(file);
  }
}

/** True when `file` is now ours. A claim of a process that ended is void; taking it over is guarded by a directory. */
function take(file: string): boolean {
  try {
    writeFileSync(file, String(process.pid), { flag: "wx" });
    return true;
  } catch {}
  try {
    if (alive(Number(readFileSync(file, "utf8")))) return false;
    mkdirSync(`${file}.guard`);
  } catch {
    return false;
  }
  try {
    if (!alive(Number(readFileSync(file, "utf8")))) unlinkSync(file);
  } catch {
  } finally {
    rmdirSync(`${file}.guard`);
  }
  return take(file);
}

function alive(pid: number): boolean {
  // A claim that is just being written is empty.
  if (!pid) return true;
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
