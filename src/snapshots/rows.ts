/** Rows of named snapshots. */
import { notFound } from "../lib/errors.ts";
import type { SandboxRow } from "../sandboxes/rows.ts";
import type { Migration, Store } from "../store/store.ts";

export const snapshotMigrations: Migration[] = [
  {
    id: "0200-snapshots",
    sql: `
CREATE TABLE snapshots (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  name TEXT NOT NULL,
  source_sandbox TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('creating','ready','deleting')),
  kind TEXT NOT NULL CHECK (kind IN ('memory','disk')),
  safety INTEGER NOT NULL,
  image TEXT NOT NULL,
  cpus REAL NOT NULL,
  memory_mb INTEGER NOT NULL,
  disk_size_mb INTEGER NOT NULL,
  env TEXT NOT NULL,
  labels TEXT NOT NULL,
  token TEXT NOT NULL,
  agent_generation INTEGER NOT NULL,
  kernel TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  state_sha256 TEXT NOT NULL,
  files TEXT NOT NULL,
  size_mb INTEGER NOT NULL,
  pause_ms REAL NOT NULL,
  created_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX snapshots_owner_name ON snapshots (user_id, name);`,
  },
  {
    id: "0210-snapshot-source-name",
    sql: "ALTER TABLE snapshots ADD COLUMN source_name TEXT NOT NULL DEFAULT ''",
  },
  {
    id: "0220-snapshot-settings",
    sql: "ALTER TABLE snapshots ADD COLUMN settings TEXT NOT NULL DEFAULT '{}'",
  },
  { id: "0230-given-secrets", sql: "ALTER TABLE snapshots ADD COLUMN secrets TEXT NOT NULL DEFAULT '[]'" },
];

export interface SnapshotRow {
  id: string;
  user_id: string;
  name: string;
  source_sandbox: string;
  /** Name of the source when the snapshot was taken; "" in older rows and imports. */
  source_name: string;
  status: "creating" | "ready" | "deleting";
  kind: "memory" | "disk";
  /** 1 = taken automatically before a rollback; the oldest give way to newer ones. */
  safety: number;
  image: string;
  cpus: number;
  memory_mb: number;
  disk_size_mb: number;
  env: string;
  labels: string;
  /** What the agent in the memory accepts. Never leaves this table but for an export, which holds the memory itself. */
  token: string;
  agent_generation: number;
  kernel: string;
  fingerprint: string;
  state_sha256: string;
  /** JSON: FileFacts by name. */
  files: string;
  size_mb: number;
  pause_ms: number;
  created_at: string;
  /** JSON: Settings of the source; {} in older rows and imports. */
  settings: string;
  /** Secrets that copies are given, as the source was; "[]" in imports: a stranger's archive asks for none. */
  secrets: string;
}

/** What copies take over of the source (IN_COPIES of sandboxes/copies.ts) beside what has a column here. */
export type Settings = Partial<Pick<SandboxRow, "warm_after_s" | "cold_after_s" | "on_unresponsive">>;

export class SnapshotRows {
  constructor(readonly store: Store) {}

  all(): SnapshotRow[] {
    return this.store.db.query<SnapshotRow, []>("SELECT * FROM snapshots").all();
  }

  byId(id: string): SnapshotRow | null {
    return this.store.db.query<SnapshotRow, [string]>("SELECT * FROM snapshots WHERE id = ?").get(id);
  }

  /** Ready ones, newest first. */
  of(user: string): SnapshotRow[] {
    return this.store.db
      .query<SnapshotRow, [string]>(
        "SELECT * FROM snapshots WHERE user_id = ? AND status = 'ready' ORDER BY created_at DESC, id",
      )
      .all(user);
  }

  /** Of any status: a name is taken from the moment a snapshot begins until its files are gone. */
  find(user: string, name: string): SnapshotRow | null {
    return this.store.db
      .query<SnapshotRow, [string, string]>("SELECT * FROM snapshots WHERE user_id = ? AND name = ?")
      .get(user, name);
  }

  /** Throws not_found unless it is there and whole. */
  ready(user: string, name: string): SnapshotRow {
    const row = this.find(user, name);
    if (row?.status !== "ready")
      throw notFound(`snapshot "${name}" not found`, "bhatti snapshot list shows your snapshots");
    return row;
  }

  /** Of any status, and how many of them were taken before a rollback. */
  count(user: string): { count: number; safety: number } {
    return this.store.db
      .query<{ count: number; safety: number }, [string]>(
        "SELECT count(*) AS count, coalesce(sum(safety), 0) AS safety FROM snapshots WHERE user_id = ?",
      )
      .get(user)!;
  }

  insert(row: SnapshotRow): void {
    const columns = Object.keys(row);
    this.store.db
      .query(`INSERT INTO snapshots (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`)
      .run(...(Object.values(row) as (string | number)[]));
  }

  update(row: SnapshotRow, patch: Partial<SnapshotRow>): void {
    const columns = Object.keys(patch);
    this.store.db
      .query(`UPDATE snapshots SET ${columns.map((c) => `${c} = ?`).join(", ")} WHERE id = ?`)
      .run(...(Object.values(patch) as (string | number)[]), row.id);
    Object.assign(row, patch);
  }

  delete(id: string): void {
    this.store.db.query("DELETE FROM snapshots WHERE id = ?").run(id);
  }
}
