/** A value as it lies in the database: an age file that also says whose it is and how it is called. */
import { Decrypter, Encrypter } from "age-encryption";
import { AppError } from "../lib/errors.ts";
import type { Key } from "./key-file.ts";

export interface Label {
  userId: string;
  name: string;
}

/** Inside the age file, in front of the value: a row that is moved to another owner or name does not open there. */
const headOf = ({ userId, name }: Label): Buffer => Buffer.from(`bhatti secret 1\0${userId}\0${name}\0`);

export async function seal(recipient: string, label: Label, value: Uint8Array): Promise<Uint8Array> {
  const encrypter = new Encrypter();
  encrypter.addRecipient(recipient);
  return encrypter.encrypt(Buffer.concat([headOf(label), value]));
}

/** @throws AppError secret_unreadable when no key opens it, it is damaged, or it is another's. */
export async function unseal(keys: readonly Key[], label: Label, sealed: Uint8Array): Promise<Buffer> {
  try {
    const decrypter = new Decrypter();
    for (const { identity } of keys) decrypter.addIdentity(identity);
    const whole = Buffer.from(await decrypter.decrypt(sealed));
    const head = headOf(label);
    if (!whole.subarray(0, head.length).equals(head))
      throw new Error("it was made for another name or owner");
    return whole.subarray(head.length);
  } catch (cause) {
    throw new AppError("secret_unreadable", `decrypt secret "${label.name}" failed`, {
      cause,
      remedy: `set it again: bhatti secret set ${label.name}`,
    });
  }
}
