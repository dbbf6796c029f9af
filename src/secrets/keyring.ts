/**
 * The keys of this server's secrets. Invariant, after every single step: what is in the database opens with what is in the file.
 * A key is written down before anything is encrypted to it, and given up after nothing needs it any more.
 */
import { AppError } from "../lib/errors.ts";
import { faultPoint } from "../lib/fault.ts";
import { KeyedMutex } from "../lib/keyed-mutex.ts";
import { type Key, newKey, readKeys, removeStaging, writeKeys } from "./key-file.ts";
import type { SecretRow, SecretRows } from "./rows.ts";
import { seal, unseal } from "./seal.ts";

export class Keyring {
  private held: Key[] = [];
  /** Whoever encrypts or changes keys; readers need no turn. */
  private readonly turn = new KeyedMutex<"key">();

  constructor(
    private readonly rows: SecretRows,
    readonly file: string,
  ) {}

  /** To be read in the same moment as a row: then one of them opens it. */
  get keys(): readonly Key[] {
    return this.held;
  }

  /**
   * Reads the file and finishes a rotation that was cut off. Throws AppError unavailable when stored secrets do not open with
   * it; nothing was changed then. `note` is told what could not be finished.
   */
  async open(note: (text: string) => void = () => {}): Promise<void> {
    this.held = await this.usable();
    await removeStaging(this.file);
    if (!this.held.some((key) => key.retiring)) return;
    await this.finish().catch((error: unknown) => {
      note(
        `the rotation of the secrets' key is not finished: ${error instanceof Error ? error.message : ""}`,
      );
    });
  }

  /** The keys of the file. Throws AppError unavailable unless every stored secret is encrypted to one of them. */
  private async usable(): Promise<Key[]> {
    const needed = this.rows.recipients();
    const total = needed.reduce((sum, { count }) => sum + count, 0);
    const wanted = needed.map(({ recipient }) => recipient).join(", ");
    const restore = `put back the copy of ${this.file} whose public key is ${wanted} (owner root, mode 0600), as docs/secrets.md says; if there is none, these secrets are lost: 'sudo bhatti host secret-key forget' removes them, and the daemon starts`;
    let keys: Key[];
    try {
      keys = await readKeys(this.file);
    } catch (error) {
      if (error instanceof AppError) throw error;
      throw new AppError("unavailable", (error as Error).message, {
        cause: error,
        remedy: total > 0 ? restore : `put it right, or move ${this.file} away: no secret needs it`,
      });
    }
    const known = new Set(keys.map(({ recipient }) => recipient));
    const foreign = needed.filter(({ recipient }) => !known.has(recipient));
    if (foreign.length === 0) return keys;
    const lost = foreign.reduce((sum, { count }) => sum + count, 0);
    const what =
      keys.length > 0
        ? `does not open ${lost} of ${total} stored secrets: it is another server's, or an older one`
        : `is missing or empty, but there are ${total} stored secrets that only it opens`;
    throw new AppError("unavailable", `${this.file} ${what}`, { remedy: restore });
  }

  /** Runs `work` with the key to encrypt to, made at the first use, while nobody rotates. Throws AppError unavailable. */
  encrypting<T>(work: (key: Key) => Promise<T>): Promise<T> {
    return this.turn.with("key", async () => {
      // A secret must not be encrypted to a key that this process alone still has.
      const there = await this.usable();
      const current = this.held[0];
      if (!current) {
        const keys = there.length > 0 ? there : [await newKey()];
        if (there.length === 0) await writeKeys(this.file, keys);
        this.held = keys;
      } else if (!there.some(({ recipient }) => recipient === current.recipient))
        throw new AppError("unavailable", `${this.file} is not the file that the daemon was started with`, {
          remedy:
            "put it back, or restart the daemon; 'sudo bhatti host secret-key rotate' writes a new one that opens everything",
        });
      return work(this.held[0]!);
    });
  }

  /** A new key, to which every secret is encrypted anew in one transaction; the old one is gone. Killed at any moment, it is finished at the next start. */
  rotate(): Promise<{ recipient: string; secrets: number }> {
    return this.turn.with("key", async () => {
      if (this.held.length === 0) this.held = await this.usable();
      const old = this.held.map((key) => ({ ...key, retiring: true }));
      const keys = [await newKey(), ...old];
      faultPoint("secret-key:begin");
      await writeKeys(this.file, keys);
      this.held = keys;
      faultPoint("secret-key:written");
      const secrets = await this.finish();
      return { recipient: this.held[0]!.recipient, secrets };
    });
  }

  /** Encrypts everything to the first key, then gives up those that retire. Returns how many values it changed. */
  private async finish(): Promise<number> {
    const current = this.held[0]!;
    const rows = this.rows.notFor(current.recipient);
    const fresh: [SecretRow, Uint8Array][] = [];
    for (const row of rows) {
      const label = { userId: row.user_id, name: row.name };
      fresh.push([row, await seal(current.recipient, label, await unseal(this.held, label, row.value))]);
    }
    this.rows.store.transaction(() => {
      for (const [row, value] of fresh) {
        this.rows.reseal(row, value, current.recipient);
        faultPoint("secret-key:resealing");
      }
    });
    faultPoint("secret-key:resealed");
    this.rows.scrub();
    const left = this.held.filter((key) => !key.retiring);
    await writeKeys(this.file, left);
    this.held = left;
    faultPoint("secret-key:end");
    return fresh.length;
  }

  /** Gives up secrets that no key opens, of the file or in use. Returns how many. Throws AppError unavailable for a file that cannot be read. */
  forget(): Promise<number> {
    return this.turn.with("key", async () => {
      const keys = await readKeys(this.file).catch((error: unknown) => {
        throw new AppError("unavailable", (error as Error).message, {
          cause: error,
          remedy: `move ${this.file} away first: what is in it is not lost then`,
        });
      });
      // A running daemon whose file is gone still opens them: nothing is lost, a rotation writes a new file.
      return this.rows.deleteNotFor([...keys, ...this.held].map(({ recipient }) => recipient));
    });
  }
}
