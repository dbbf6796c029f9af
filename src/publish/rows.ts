/** Rows of published ports. They go with their sandbox, in the same transaction. */
import type { Migration, Store } from "../store/store.ts";
import type { Visibility } from "./service.ts";

export const publishMigrations: Migration[] = [
  {
    id: "0400-publish",
    sql: `
CREATE TABLE published_ports (
  id TEXT PRIMARY KEY,
  sandbox_id TEXT NOT NULL REFERENCES sandboxes(id) ON DELETE CASCADE,
  user_id TEXT NOT NULL,
  port INTEGER NOT NULL,
  alias TEXT NOT NULL UNIQUE,
  visibility TEXT NOT NULL CHECK (visibility IN ('public','password','link')),
  password_hash TEXT NOT NULL,
  key BLOB NOT NULL,
  created_at TEXT NOT NULL,
  UNIQUE (sandbox_id, port)
) STRICT;
CREATE INDEX published_ports_user ON published_ports (user_id);`,
  },
];

export interface PublishRow {
  id: string;
  sandbox_id: string;
  user_id: string;
  port: number;
  alias: string;
  visibility: Visibility;
  /** "" = none. */
  password_hash: string;
  /** Signs links and cookies of who was let in; a new one ends them all. */
  key: Uint8Array;
  created_at: string;
}

export class PublishRows {
  constructor(readonly store: Store) {}

  byAlias(alias: string): PublishRow | null {
    return this.store.db
      .query<PublishRow, [string]>("SELECT * FROM published_ports WHERE alias = ?")
      .get(alias);
  }

  find(sandboxId: string, port: number): PublishRow | null {
    return this.store.db
      .query<PublishRow, [string, number]>("SELECT * FROM published_ports WHERE sandbox_id = ? AND port = ?")
      .get(sandboxId, port);
  }

  ofSandbox(sandboxId: string): PublishRow[] {
    return this.store.db
      .query<PublishRow, [string]>("SELECT * FROM published_ports WHERE sandbox_id = ? ORDER BY port")
      .all(sandboxId);
  }

  ofUser(userId: string): PublishRow[] {
    return this.store.db
      .query<PublishRow, [string]>(
        "SELECT * FROM published_ports WHERE user_id = ? ORDER BY created_at DESC, port",
      )
      .all(userId);
  }

  count(userId: string): number {
    return this.store.db
      .query<{ n: number }, [string]>("SELECT count(*) AS n FROM published_ports WHERE user_id = ?")
      .get(userId)!.n;
  }

  insert(row: PublishRow): void {
    this.store.db
      .query(
        `INSERT INTO published_ports (id, sandbox_id, user_id, port, alias, visibility, password_hash, key, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      )
      .run(
        row.id,
        row.sandbox_id,
        row.user_id,
        row.port,
        row.alias,
        row.visibility,
        row.password_hash,
        row.key,
        row.created_at,
      );
  }

  /** Who may see it; the key is a new one. */
  setVisibility(row: PublishRow): void {
    this.store.db
      .query("UPDATE published_ports SET visibility = ?, password_hash = ?, key = ? WHERE id = ?")
      .run(row.visibility, row.password_hash, row.key, row.id);
  }

  /** False when there was none. */
  delete(id: string): boolean {
    return this.store.db.query("DELETE FROM published_ports WHERE id = ?").run(id).changes > 0;
  }
}
