/** Rows of secrets: ciphertext, and what may be known without a key. */
import type { Migration, Store } from "../store/store.ts";

export const secretMigrations: Migration[] = [
  {
    id: "0300-secrets",
    sql: `
CREATE TABLE secrets (
  user_id TEXT NOT NULL,
  name TEXT NOT NULL,
  value BLOB NOT NULL,
  recipient TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  is_text INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  PRIMARY KEY (user_id, name)
) STRICT;`,
  },
];

export interface SecretRow {
  user_id: string;
  name: string;
  /** An age file: seal.ts. */
  value: Uint8Array;
  /** Public key that it is encrypted to. */
  recipient: string;
  /** Length of the plain value. */
  bytes: number;
  /** 1 = UTF-8 without NUL: it can be an environment variable. */
  is_text: number;
  created_at: string;
  updated_at: string;
}

export class SecretRows {
  constructor(readonly store: Store) {}

  of(userId: string): SecretRow[] {
    return this.store.db
      .query<SecretRow, [string]>("SELECT * FROM secrets WHERE user_id = ? ORDER BY name")
      .all(userId);
  }

  find(userId: string, name: string): SecretRow | null {
    return this.store.db
      .query<SecretRow, [string, string]>("SELECT * FROM secrets WHERE user_id = ? AND name = ?")
      .get(userId, name);
  }

  count(userId: string): number {
    return this.store.db
      .query<{ n: number }, [string]>("SELECT count(*) AS n FROM secrets WHERE user_id = ?")
      .get(userId)!.n;
  }

  /** How many a user may have; null when there is no such user any more. */
  maxOf(userId: string): number | null {
    const query = this.store.db.query<{ max: number }, [string]>(
      "SELECT max_secrets AS max FROM users WHERE id = ?",
    );
    return query.get(userId)?.max ?? null;
  }

  /** Keeps `created_at` of one that is there. */
  put(row: SecretRow): void {
    this.store.db
      .query(
        `INSERT INTO secrets (user_id, name, value, recipient, bytes, is_text, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_id, name) DO UPDATE SET value = excluded.value,
recipient = excluded.recipient, bytes = excluded.bytes, is_text = excluded.is_text, updated_at = excluded.updated_at`,
      )
      .run(
        row.user_id,
        row.name,
        row.value,
        row.recipient,
        row.bytes,
        row.is_text,
        row.created_at,
        row.updated_at,
      );
  }

  /** False when there was none. */
  delete(userId: string, name: string): boolean {
    return (
      this.store.db.query("DELETE FROM secrets WHERE user_id = ? AND name = ?").run(userId, name).changes > 0
    );
  }

  /** Public keys in use, with the number of values each. */
  recipients(): { recipient: string; count: number }[] {
    return this.store.db
      .query<{ recipient: string; count: number }, []>(
        "SELECT recipient, count(*) AS count FROM secrets GROUP BY recipient ORDER BY recipient",
      )
      .all();
  }

  /** Those that are encrypted to something else. */
  notFor(recipient: string): SecretRow[] {
    return this.store.db
      .query<SecretRow, [string]>("SELECT * FROM secrets WHERE recipient <> ?")
      .all(recipient);
  }

  /** The same value, encrypted anew. */
  reseal(row: SecretRow, value: Uint8Array, recipient: string): void {
    this.store.db
      .query("UPDATE secrets SET value = ?, recipient = ? WHERE user_id = ? AND name = ?")
      .run(value, recipient, row.user_id, row.name);
  }

  /** Nothing of what was replaced stays behind in the files of the database. */
  scrub(): void {
    this.store.db.exec("PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
  }

  /** Values that none of these keys opens. Returns how many were removed. */
  deleteNotFor(recipients: string[]): number {
    const marks = recipients.map(() => "?").join(", ");
    return this.store.db.query(`DELETE FROM secrets WHERE recipient NOT IN (${marks})`).run(...recipients)
      .changes;
  }
}
