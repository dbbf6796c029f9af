/**
 * Rows of events, in a database of their own: a commit there waits for no disk (WAL with synchronous=NORMAL loses the last moments
 * in a power cut, never more), and their number takes no room from what must be writable. Every look-up is bounded by an index.
 */
import { Database, type SQLQueryBindings } from "bun:sqlite";
import { closeSync, openSync } from "node:fs";
import type { EventFilter } from "./events.ts";

export interface EventRow {
  id: number;
  ts: string;
  type: string;
  user_id: string;
  sandbox_id: string;
  meta: string;
}
export type NewEvent = Omit<EventRow, "id">;

/** Rows deleted in one go. */
const SLICE = 1000;

export class EventStore {
  readonly db: Database;
  /** Types there are: some dozens. */
  private readonly types: Set<string>;
  /** Rows of each user; null until so many events are there that it matters: a start counts nothing. */
  private counts: Map<string, number> | null = null;

  /** `alone`: nobody else opens it, so no shared memory is mapped, which would fault when the disk is full. */
  constructor(path: string, alone = false) {
    if (path !== ":memory:") closeSync(openSync(path, "a", 0o600));
    this.db = new Database(path, { create: true, strict: true });
    this.db.exec(`
PRAGMA locking_mode=${alone ? "EXCLUSIVE" : "NORMAL"}; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=5000; PRAGMA journal_size_limit=4194304;
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  ts TEXT NOT NULL,
  type TEXT NOT NULL,
  user_id TEXT NOT NULL,
  sandbox_id TEXT NOT NULL,
  meta TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_type ON events (type, id);
CREATE INDEX IF NOT EXISTS events_user ON events (user_id, id);
CREATE INDEX IF NOT EXISTS events_user_type ON events (user_id, type, id);
CREATE INDEX IF NOT EXISTS events_sandbox ON events (sandbox_id, id);`);
    this.types = new Set(this.distinctTypes());
  }

  /** In one transaction. Throws when the disk is full; then none was written. */
  insert(batch: NewEvent[]): EventRow[] {
    const insert = this.db.query<EventRow, [string, string, string, string, string]>(
      "INSERT INTO events (ts, type, user_id, sandbox_id, meta) VALUES (?, ?, ?, ?, ?) RETURNING *",
    );
    const rows = this.db
      .transaction(() => batch.map((e) => insert.get(e.ts, e.type, e.user_id, e.sandbox_id, e.meta)!))
      .immediate();
    for (const { type, user_id } of rows) {
      this.types.add(type);
      this.count(user_id, 1);
    }
    return rows;
  }

  /** The newest `limit` that fit, oldest of them first. */
  list(filter: EventFilter, limit: number): EventRow[] {
    const { where, values } = conditions(filter);
    const some = (more: string, value: string[]) =>
      this.db
        .query<EventRow, SQLQueryBindings[]>(
          `SELECT * FROM events WHERE ${[...where, more].join(" AND ")} ORDER BY id DESC LIMIT ?`,
        )
        .all(...values, ...value, limit);
    if (!filter.type) return some("1", []).reverse();
    // One look into the index for each type of that prefix: a rare type must not make us read all the others.
    const found = [...this.types]
      .filter((type) => type.startsWith(filter.type!))
      .flatMap((type) => some("type = ?", [type]));
    return found.sort((a, b) => a.id - b.id).slice(-limit);
  }

  /**
   * Deletes up to 1000 that are older than `before`; when there are none and more than `max` are kept, the oldest of the user who
   * has most: nobody's flood ends the record of the others. Returns how many.
   */
  purge(before: string, max: number): number {
    const slice = this.db
      .query<{ id: number; ts: string; user_id: string }, [number]>(
        "SELECT id, ts, user_id FROM events ORDER BY id LIMIT ?",
      )
      .all(SLICE);
    const last = slice.findLastIndex(({ ts }) => ts < before);
    if (last >= 0) {
      this.db.query("DELETE FROM events WHERE id <= ?").run(slice[last]!.id);
      for (const { user_id } of slice.slice(0, last + 1)) this.count(user_id, -1);
      return last + 1;
    }
    // Ids are never used twice: there are at most as many rows as numbers between the oldest and the newest.
    const newest = this.db.query<{ id: number }, []>("SELECT max(id) AS id FROM events").get()?.id ?? 0;
    if (!slice[0] || newest - slice[0].id < max) return 0;
    this.counts ??= this.counted();
    const total = [...this.counts.values()].reduce((sum, n) => sum + n, 0);
    const [most] = [...this.counts].sort((a, b) => b[1] - a[1]);
    if (total <= max || !most) return 0;
    const { changes } = this.db
      .query("DELETE FROM events WHERE id IN (SELECT id FROM events WHERE user_id = ? ORDER BY id LIMIT ?)")
      .run(most[0], Math.min(SLICE, total - max));
    this.count(most[0], -changes);
    return changes;
  }

  private counted(): Map<string, number> {
    const rows = this.db
      .query<{ user_id: string; n: number }, []>("SELECT user_id, count(*) AS n FROM events GROUP BY user_id")
      .all();
    return new Map(rows.map(({ user_id, n }) => [user_id, n]));
  }

  private count(userId: string, more: number): void {
    if (!this.counts) return;
    const n = (this.counts.get(userId) ?? 0) + more;
    if (n > 0) this.counts.set(userId, n);
    else this.counts.delete(userId);
  }

  close(): void {
    this.db.close();
  }

  /** By jumps through the index, not by reading it. */
  private distinctTypes(): string[] {
    return this.db
      .query<{ type: string }, []>(
        `WITH RECURSIVE t(type) AS (SELECT min(type) FROM events
         UNION ALL SELECT (SELECT min(type) FROM events WHERE type > t.type) FROM t WHERE t.type IS NOT NULL)
         SELECT type FROM t WHERE type IS NOT NULL`,
      )
      .all()
      .map(({ type }) => type);
  }
}

function conditions(filter: EventFilter): { where: string[]; values: SQLQueryBindings[] } {
  const where: string[] = [];
  const values: SQLQueryBindings[] = [];
  const also = (sql: string, value: SQLQueryBindings) => {
    where.push(sql);
    values.push(value);
  };
  if (filter.sinceId) also("id > ?", filter.sinceId);
  // The sandbox's index is the narrower one: its events are then looked through for the user.
  if (filter.sandboxId) also("sandbox_id = ?", filter.sandboxId);
  if (filter.userId) also(filter.sandboxId ? "+user_id = ?" : "user_id = ?", filter.userId);
  return { where, values };
}
