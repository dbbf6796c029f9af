/** What root may do with the key of secrets, on the server itself: by the daemon's socket, or while none runs. */
import type { Keyring } from "./keyring.ts";
import type { SecretRows } from "./rows.ts";

export interface KeyCommand {
  op: "secret-key";
  action: "show" | "rotate" | "forget";
}

export interface KeyResult {
  file: string;
  /** Public keys of the file; the first is the one that is encrypted to. */
  recipients: string[];
  /** Secrets that are stored, and those that the command encrypted anew or gave up. */
  stored: number;
  changed: number;
}

export const isKeyCommand = (command: { op: string }): command is KeyCommand => command.op === "secret-key";

/** Throws AppError. `rotate` needs a keyring that is open. */
export async function keyCommand(
  keyring: Keyring,
  rows: SecretRows,
  { action }: KeyCommand,
): Promise<KeyResult> {
  let changed = 0;
  if (action === "rotate") changed = (await keyring.rotate()).secrets;
  if (action === "forget") changed = await keyring.forget();
  const stored = rows.recipients().reduce((sum, { count }) => sum + count, 0);
  return { file: keyring.file, recipients: keyring.keys.map((key) => key.recipient), stored, changed };
}
