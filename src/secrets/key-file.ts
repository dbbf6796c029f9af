/**
 * `age.key`: the identities that open stored secrets, in age's own format (one a line, '#' comments), readable by root alone.
 * The first is the one that is encrypted to; further ones open what was encrypted before a rotation that is not finished.
 */
import { constants } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { AppError } from "../lib/errors.ts";

/** Never printed, never logged. */
export interface Key {
  identity: string;
  /** Public: what is encrypted to. */
  recipient: string;
  /** A rotation is under way that ends with this one's removal. */
  retiring?: boolean;
}

const MAX_BYTES = 64 * 1024;
const RETIRING = "# retiring:";

export async function newKey(): Promise<Key> {
  const identity = await generateX25519Identity();
  return { identity, recipient: await identityToRecipient(identity) };
}

/**
 * Empty when there is no such file, or nothing in it. @throws Error when it is not a file of ours alone, or has a line that is
 * no identity; what the line holds is not said.
 */
export async function readKeys(path: string): Promise<Key[]> {
  // Not waiting: a FIFO has no writer.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  });
  if (!file) return [];
  try {
    const facts = await file.stat();
    if (!facts.isFile() || facts.uid !== process.getuid?.() || (facts.mode & 0o077) !== 0)
      throw new AppError(
        "unavailable",
        `${path} must be a file of root's, mode 0600: whoever can read it can read every secret`,
        { remedy: `chown root ${path}; chmod 600 ${path}` },
      );
    if (facts.size > MAX_BYTES) throw new Error(`${path} is too large to be a file of age identities`);
    return await parse(await file.readFile("utf8"), path);
  } finally {
    await file.close();
  }
}

async function parse(text: string, path: string): Promise<Key[]> {
  const keys = new Map<string, Key>();
  let retiring = false;
  for (const [i, raw] of text.split("\n").entries()) {
    const line = raw.trim();
    if (line.startsWith(RETIRING)) retiring = true;
    if (line === "" || line.startsWith("#")) continue;
    const recipient = await recipientOf(line);
    if (!recipient) throw new Error(`${path}: line ${i + 1} is no age identity (AGE-SECRET-KEY-1…)`);
    keys.set(recipient, { identity: line, recipient, ...(retiring ? { retiring } : {}) });
    retiring = false;
  }
  return [...keys.values()];
}

async function recipientOf(line: string): Promise<string | null> {
  try {
    return await identityToRecipient(line);
  } catch {
    return null;
  }
}

const stagingOf = (path: string): string => `${path}.new`;

/** What a process that was killed while it wrote has left: a key that nothing was encrypted to. */
export const removeStaging = (path: string): Promise<void> => rm(stagingOf(path), { force: true });

/** Replaces the file; it is on the disk when this returns. Old or new, never half, whenever the machine stops. */
export async function writeKeys(path: string, keys: Key[]): Promise<void> {
  const lines = keys.map(
    ({ identity, recipient, retiring }) =>
      `${retiring ? `${RETIRING} a rotation is not finished\n` : ""}# public key: ${recipient}\n${identity}\n`,
  );
  const text = `# Opens the secrets of this bhatti server. Keep a copy elsewhere: without it they are lost.\n${lines.join("")}`;
  const staging = stagingOf(path);
  await removeStaging(path);
  try {
    const file = await open(staging, "wx", 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(staging, path);
  } catch (error) {
    await rm(staging, { force: true }).catch(() => {});
    throw error;
  }
  const folder: FileHandle = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
