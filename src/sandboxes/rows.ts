/** Rows of sandboxes and the journal of what is in flight. All statements are synchronous. */
import type { Store } from "../store/store.ts";

/** See migrations.ts. Flags are 0/1; "" and 0 mean 'none'. */
export interface SandboxRow {
  id: string;
  name: string;
  created_by: string;
  engine_id: string;
  status: "creating" | "running" | "stopped" | "destroying";
  reason: string;
  image: string;
  cpus: number;
  memory_mb: number;
  disk_size_mb: number;
  labels: string;
  keep_hot: number;
  warm_after_s: number;
  cold_after_s: number;
  env: string;
  init: string;
  subnet_index: number;
  slot: number;
  uid: number;
  netns: string;
  address: string;
  gateway: string;
  kernel: string;
  fingerprint: string;
  token: string;
  machine_id: string;
  agent_generation: number;
  disk_file: string;
  mem_file: string;
  /** Number of the last saved device state: file `state.<generation>`. */
  generation: number;
  /** 1 = the saved memory was used (or never existed, or is lost): a start boots from disk. */
  consumed: number;
  /** 1 = user processes were frozen when the state was saved: safe to clone. */
  frozen: number;
  state_sha256: string;
  /** Host boot during which the state was saved. */
  boot_id: string;
  durable: number;
  pid: number;
  pid_start: number;
  created_from: string;
  created_at: string;
  stopped_at: string;
  last_activity_at: string;
  last_error: string;
  /** How the machine ended last: JSON of LastEnd (service.ts). */
  last_end: string;
  /** Since when it does not answer, and what it is that does not. */
  unresponsive_since: string;
  unresponsive_why: string;
  on_unresponsive: "none" | "restart";
  /** What became of `init` in this boot: JSON of InitView (service.ts). */
  init_status: string;
  /** Secrets it is given, by name: JSON of SecretRef[]. Their values are not here. */
  secrets: string;
}

/** Transitions that the journal knows. One per sandbox at a time. */
export type Op = "create" | "destroy" | "stop" | "start" | "boot" | "restart" | "checkpoint" | "rollback";

export interface JournalRow {
  sandbox_id: string;
  op: Op;
  step: string;
  detail: string;
  started_at: string;
}

export class SandboxRows {
  constructor(readonly store: Store) {}

  all(): SandboxRow[] {
    return this.store.db.query<SandboxRow, []>("SELECT * FROM sandboxes ORDER BY created_at DESC, id").all();
  }

  byName(owner: string, name: string): SandboxRow | null {
    return this.store.db
      .query<SandboxRow, [string, string]>("SELECT * FROM sandboxes WHERE created_by = ? AND name = ?")
      .get(owner, name);
  }

  count(owner: string): number {
    return this.store.db
      .query<{ n: number }, [string]>("SELECT count(*) AS n FROM sandboxes WHERE created_by = ?")
      .get(owner)!.n;
  }

  /** Whether that user is still there, with that subnet. */
  hasOwner(id: string, subnetIndex: number): boolean {
    return (
      this.store.db
        .query<{ id: string }, [string, number]>("SELECT id FROM users WHERE id = ? AND subnet_index = ?")
        .get(id, subnetIndex) !== null
    );
  }

  insert(row: SandboxRow): void {
    const columns = Object.keys(row);
    this.store.db
      .query(`INSERT INTO sandboxes (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`)
      .run(...(Object.values(row) as (string | number)[]));
  }

  /** Writes `patch` to the row and to the object the caller holds. */
  update(row: SandboxRow, patch: Partial<SandboxRow>): void {
    const columns = Object.keys(patch);
    if (columns.length === 0) return;
    this.store.db
      .query(`UPDATE sandboxes SET ${columns.map((c) => `${c} = ?`).join(", ")} WHERE id = ?`)
      .run(...(Object.values(patch) as (string | number)[]), row.id);
    Object.assign(row, patch);
  }

  delete(id: string): void {
    this.store.db.query("DELETE FROM journal WHERE sandbox_id = ?").run(id);
    this.store.db.query("DELETE FROM sandboxes WHERE id = ?").run(id);
  }

  /** Notes that `op` began. In the same transaction as the row's change. */
  begin(id: string, op: Op, step: string, detail: Record<string, unknown> = {}): void {
    this.store.db
      .query("INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?, ?)")
      .run(id, op, step, JSON.stringify(detail), new Date().toISOString());
  }

  end(id: string): void {
    this.store.db.query("DELETE FROM journal WHERE sandbox_id = ?").run(id);
  }

  journal(): JournalRow[] {
    return this.store.db.query<JournalRow, []>("SELECT * FROM journal").all();
  }
}
