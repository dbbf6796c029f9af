/** Idempotency-Key of creates: which key of which user made which sandbox. Survives restarts; forgotten after a day. */
import { createHash } from "node:crypto";
import { AppError, conflict } from "../lib/errors.ts";
import type { Migration, Store } from "../store/store.ts";
import type { CreateInput } from "./service.ts";

export const idempotencyMigrations: Migration[] = [
  {
    id: "0110-idempotency-keys",
    sql: `
CREATE TABLE idempotency_keys (
  user_id TEXT NOT NULL,
  key TEXT NOT NULL,
  request_sha256 TEXT NOT NULL,
  sandbox_id TEXT NOT NULL,
  made INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_age ON idempotency_keys (user_id, created_at);`,
  },
];

const HOURS = 24;
const PURGE_EVERY_MS = 3_600_000;
/** Keys that are remembered of one user; the oldest go first. */
const MAX_KEYS = 10_000;

interface Row {
  request_sha256: string;
  sandbox_id: string;
  made: number;
}

export class IdempotencyKeys {
  /** When old keys of everybody were last forgotten, also of users who are gone. */
  private purgedAt = 0;

  constructor(
    private readonly store: Store,
    private readonly now: () => number = Date.now,
  ) {}

  /**
   * Id of the sandbox that the key stands for, or null. Throws conflict when the key was used for another input, or when
   * its sandbox was destroyed: making a second one is not what a repeated request means.
   */
  find(user: string, key: string, request: string, exists: (id: string) => boolean): string | null {
    this.purge();
    const row = this.store.db
      .query<Row, [string, string, string]>(
        "SELECT request_sha256, sandbox_id, made FROM idempotency_keys WHERE user_id = ? AND key = ? AND created_at >= ?",
      )
      .get(user, key, this.oldest());
    if (!row) return null;
    if (row.request_sha256 !== request) {
      throw conflict(
        `Idempotency-Key "${key}" was used for another create`,
        "use a new key for a new sandbox",
      );
    }
    if (exists(row.sandbox_id)) return row.sandbox_id;
    // A create that failed, or that a crash undid, was never answered: the key is free.
    if (row.made === 0) return null;
    throw new AppError("conflict", `the sandbox made under Idempotency-Key "${key}" was destroyed`, {
      remedy: "use a new key to make another one",
    });
  }

  /** In the transaction that inserts the sandbox's row. */
  remember(user: string, key: string, request: string, sandboxId: string, made: boolean): void {
    const { db } = this.store;
    db.query("INSERT OR REPLACE INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?)").run(
      user,
      key,
      request,
      sandboxId,
      made ? 1 : 0,
      new Date(this.now()).toISOString(),
    );
    db.query(
      "DELETE FROM idempotency_keys WHERE user_id = ?1 AND created_at < (SELECT created_at FROM idempotency_keys WHERE user_id = ?1 ORDER BY created_at DESC LIMIT 1 OFFSET ?2)",
    ).run(user, MAX_KEYS - 1);
  }

  /** Before the create is answered. */
  made(user: string, key: string): void {
    this.store.db.query("UPDATE idempotency_keys SET made = 1 WHERE user_id = ? AND key = ?").run(user, key);
  }

  private purge(): void {
    if (this.now() - this.purgedAt < PURGE_EVERY_MS) return;
    this.purgedAt = this.now();
    this.store.db.query("DELETE FROM idempotency_keys WHERE created_at < ?").run(this.oldest());
  }

  private oldest(): string {
    return new Date(this.now() - HOURS * 3_600_000).toISOString();
  }
}

/** What makes two creates the same, whatever the order of members. */
export function fingerprintOf(input: CreateInput): string {
  const files = input.files?.map((file) => ({
    ...file,
    content: Buffer.from(file.content).toString("base64"),
  }));
  return createHash("sha256")
    .update(canonical({ ...input, files }))
    .digest("hex");
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  members.sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonical(member)}`).join(",")}}`;
}
