import type { Migration } from "../store/store.ts";

/** Times are RFC 3339 UTC text. Flags are 0/1. JSON columns are objects. */
export const sandboxMigrations: Migration[] = [
  {
    id: "0100-sandboxes",
    sql: `
CREATE TABLE sandboxes (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  created_by TEXT NOT NULL,
  engine_id TEXT NOT NULL UNIQUE,
  status TEXT NOT NULL CHECK (status IN ('creating','running','stopped','destroying')),
  reason TEXT NOT NULL,
  image TEXT NOT NULL,
  cpus REAL NOT NULL,
  memory_mb INTEGER NOT NULL,
  disk_size_mb INTEGER NOT NULL,
  labels TEXT NOT NULL,
  keep_hot INTEGER NOT NULL,
  warm_after_s INTEGER NOT NULL,
  cold_after_s INTEGER NOT NULL,
  env TEXT NOT NULL,
  init TEXT NOT NULL,
  subnet_index INTEGER NOT NULL,
  slot INTEGER NOT NULL UNIQUE,
  uid INTEGER NOT NULL,
  netns TEXT NOT NULL,
  address TEXT NOT NULL UNIQUE,
  gateway TEXT NOT NULL,
  kernel TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  token TEXT NOT NULL,
  machine_id TEXT NOT NULL,
  agent_generation INTEGER NOT NULL,
  disk_file TEXT NOT NULL,
  mem_file TEXT NOT NULL,
  generation INTEGER NOT NULL,
  consumed INTEGER NOT NULL,
  frozen INTEGER NOT NULL,
  state_sha256 TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  durable INTEGER NOT NULL,
  pid INTEGER NOT NULL,
  pid_start INTEGER NOT NULL,
  created_from TEXT NOT NULL,
  created_at TEXT NOT NULL,
  stopped_at TEXT NOT NULL,
  last_activity_at TEXT NOT NULL,
  last_error TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX sandboxes_owner_name ON sandboxes (created_by, name);
CREATE TABLE journal (
  sandbox_id TEXT PRIMARY KEY,
  op TEXT NOT NULL,
  step TEXT NOT NULL,
  detail TEXT NOT NULL,
  started_at TEXT NOT NULL
) STRICT;`,
  },
  {
    id: "0110-sick-guests",
    sql: `
ALTER TABLE sandboxes ADD COLUMN last_end TEXT NOT NULL DEFAULT '';
ALTER TABLE sandboxes ADD COLUMN unresponsive_since TEXT NOT NULL DEFAULT '';
ALTER TABLE sandboxes ADD COLUMN unresponsive_why TEXT NOT NULL DEFAULT '';
ALTER TABLE sandboxes ADD COLUMN on_unresponsive TEXT NOT NULL DEFAULT 'none';
ALTER TABLE sandboxes ADD COLUMN init_status TEXT NOT NULL DEFAULT '';`,
  },
  { id: "0120-given-secrets", sql: "ALTER TABLE sandboxes ADD COLUMN secrets TEXT NOT NULL DEFAULT '[]'" },
];
