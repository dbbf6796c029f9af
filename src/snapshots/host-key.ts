/** The key by which this host knows its own device states again: `<data>/host.key`, 32 random bytes, readable by root alone. */
import { randomBytes } from "node:crypto";
import { link, lstat, readFile, rm, writeFile } from "node:fs/promises";
import { hex } from "../lib/ids.ts";
import type { Storage } from "../storage/storage.ts";

/** Made at the first start. @throws Error when it is there but not usable: a wrong key must not be replaced in silence. */
export async function hostKey(dataDir: string, storage: Pick<Storage, "sync">): Promise<Buffer> {
  const path = `${dataDir}/host.key`;
  const facts = await lstat(path).catch(() => null);
  if (!facts) {
    const staging = `${path}.${hex(4)}`;
    await writeFile(staging, randomBytes(32), { mode: 0o600, flag: "wx" });
    await storage.sync([staging]);
    await link(staging, path).catch(() => {}); // another start was faster
    await rm(staging);
    await storage.sync([path]);
    return readFile(path);
  }
  if (!facts.isFile() || facts.uid !== process.getuid?.() || (facts.mode & 0o077) !== 0)
    throw new Error(
      `${path} must be a file of root's, mode 0600: whoever can read it can forge device states`,
    );
  const key = await readFile(path);
  if (key.length !== 32) throw new Error(`${path} is damaged; remove it, and older exports import as disks`);
  return key;
}
