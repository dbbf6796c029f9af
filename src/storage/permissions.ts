/**
 * What lies on the host's disk is nobody else's business: modes are right when a thing is made (umask), folders are root's
 * alone. A VMM needs no way through them: its jail is built by root, and it enters as its own user afterwards.
 */
import { chmodSync, lstatSync, readdirSync } from "node:fs";
import { basename } from "node:path";

/** Folders below the data directory that hold nothing but what a distribution publishes. VMMs read the kernel as 'others'. */
const PUBLIC = new Set(["kernel", "bin"]);

const NOTHING = new Set<string>();

/**
 * What the VMM of a running sandbox, or the edge, passes through on its way to a socket there: nobody can list them, and the
 * folder around them is root's alone.
 */
const PASSED = new Set(["vm", "out", "edge"]);

/** To anybody who knows the name (older versions), or to the VMM's own group. A VM that runs on needs its way to be stopped. */
const WAYS = new Set([0o711, 0o710]);

/** Everything this process makes from now on is its user's alone. */
export const makePrivate = (): number => process.umask(0o077);

/** The one file system that is mounted in the data folder and is ours. */
const MOUNTED = new Set(["reserved"]);

/** The root of an image while it is built: closed by the folder itself, and its modes are the guest's (images/build.ts). */
const IN_WORK = /^\.[0-9a-f]{8}\.tmp$/;

/**
 * Paths below `root` (itself included) that anybody but their owner can open. Folders of another user than root are not
 * entered: they are a VMM's, and so is what a name in them means. Neither is what is mounted from elsewhere: it may be the
 * host's own /dev/shm.
 */
export function* openToOthers(root: string, skip = PUBLIC): Generator<string> {
  const facts = lstatSync(root, { throwIfNoEntry: false });
  if (!facts || facts.isSymbolicLink()) return;
  const passed = facts.isDirectory() && WAYS.has(facts.mode & 0o777) && PASSED.has(basename(root));
  if ((facts.mode & 0o077) !== 0 && !passed) yield root;
  if (!facts.isDirectory() || facts.uid !== 0) return;
  if (IN_WORK.test(basename(root)) && (facts.mode & 0o077) === 0) return;
  for (const name of readdirSync(root)) {
    if (skip.has(name)) continue;
    const path = `${root}/${name}`;
    const device = lstatSync(path, { throwIfNoEntry: false })?.dev;
    if (device !== facts.dev && !(skip === PUBLIC && MOUNTED.has(name))) continue;
    yield* openToOthers(path, NOTHING);
  }
}

/** Closes what an older version left open. Returns how many paths were mended. */
export function mendPermissions(root: string): number {
  let mended = 0;
  for (const path of openToOthers(root)) {
    chmodSync(path, lstatSync(path).mode & 0o700);
    mended++;
  }
  return mended;
}
