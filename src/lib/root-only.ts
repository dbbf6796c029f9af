/** Whether root may rely on a path: nobody else can put something in its place. */
import { lstatSync, realpathSync } from "node:fs";
import { dirname } from "node:path";

/**
 * The first part of `path`, from its end, that others than root can change; null when there is none. In a folder with the
 * sticky bit (/var/tmp) above it others may add names, but not take away root's. @throws when the path is not there.
 */
export function changedByOthers(path: string): string | null {
  const real = realpathSync(path);
  for (let at = real; ; at = dirname(at)) {
    const { uid, mode } = lstatSync(at);
    const sticky = (mode & 0o1000) !== 0 && at !== real;
    if (uid !== 0 || ((mode & 0o022) !== 0 && !sticky)) return at;
    if (at === "/") return null;
  }
}
