/** Claims between test processes of one machine: who may use which network base, and who prepares what is shared. */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";

const DIR = "/run/bhatti-test";
/** Bases 1…200: subnets, uids and names of one test installation each; see network/names.ts. */
const BASES = 200;

/** A base that was taken, and by which process. */
export interface Claim {
  base: number;
  prefix: string;
  pid: number;
}

/**
 * Takes a network base that no living process holds; `release` gives it back. Names start with `prefix`. Written down in the
 * file of BHATTI_TEST_CLAIMS, so that a run can look for what it left (leftovers.ts). A holder that was killed could remove
 * nothing, and its VMs live on as they should: that is done here, before anybody builds there again.
 */
export function claimBase(): { base: number; prefix: string; release(): void } {
  mkdirSync(DIR, { recursive: true });
  for (let base = 1; base <= BASES; base++) {
    const file = fileOf(base);
    const taken = take(file);
    if (!taken) continue;
    if (taken === "from the dead") clear(base);
    const claim: Claim = { base, prefix: prefixOf(base), pid: process.pid };
    const record = process.env.BHATTI_TEST_CLAIMS;
    if (record) appendFileSync(record, `${JSON.stringify(claim)}\n`);
    return { base, prefix: claim.prefix, release: () => unlinkSync(file) };
  }
  throw new Error(`all ${BASES} network bases of ${DIR} are taken`);
}

/**
 * Takes the bases of `record` again that nobody has taken since: they were given back, or their taker is dead. What is found
 * under such a base is of the run that wrote the record, and while the claim is held nobody else builds there.
 */
export function claimAgain(record: string): { base: number; prefix: string; release(): void }[] {
  const claims = existsSync(record) ? readFileSync(record, "utf8").trim().split("\n").filter(Boolean) : [];
  return claims
    .map((line) => JSON.parse(line) as Claim)
    .filter(({ base, pid }) => {
      const holder = existsSync(fileOf(base)) ? Number(readFileSync(fileOf(base), "utf8")) : pid;
      return holder === pid && take(fileOf(base));
    })
    .map(({ base, prefix }) => ({ base, prefix, release: () => unlinkSync(fileOf(base)) }));
}

/** In a process of its own: who claims cannot wait for promises. */
function clear(base: number): void {
  const script = [`${import.meta.dir}/leftovers.ts`, "--base", String(base)];
  const done = Bun.spawnSync([process.execPath, ...script], { stdout: "pipe", stderr: "pipe" });
  const [text, errors] = [done.stdout.toString(), done.stderr.toString()];
  if (errors) throw new Error(`base ${base} of a killed test process cannot be cleared: ${errors}`);
  if (text) console.error(`a killed test process had base ${base}\n${text.trimEnd()}`);
}

const fileOf = (base: number) => `${DIR}/base-${base}`;

export function prefixOf(base: number): string {
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

/** How `file` became ours; null when it did not. A claim of a process that ended is void; a directory guards taking it over. */
function take(file: string): "new" | "from the dead" | null {
  try {
    writeFileSync(file, String(process.pid), { flag: "wx" });
    return "new";
  } catch {}
  try {
    if (alive(Number(readFileSync(file, "utf8")))) return null;
    mkdirSync(`${file}.guard`);
  } catch {
    return null;
  }
  try {
    if (!alive(Number(readFileSync(file, "utf8")))) unlinkSync(file);
  } catch {
  } finally {
    rmdirSync(`${file}.guard`);
  }
  return take(file) && "from the dead";
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
