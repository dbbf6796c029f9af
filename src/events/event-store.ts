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
    for (const { type } of rows) this.types.add(type);
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

  /** Deletes up to 1000 of the oldest, if they are older than `before` or more than `max` are there. Returns how many. */
  purge(before: string, max: number): number {
    const slice = this.db
      .query<{ id: number; ts: string }, [number]>("SELECT id, ts FROM events ORDER BY id LIMIT ?")
      .all(SLICE);
    const newest = this.db.query<{ id: number }, []>("SELECT max(id) AS id FROM events").get()?.id ?? 0;
    const last = slice.findLast(({ id, ts }) => ts < before || newest - id >= max);
    if (!last) return 0;
    this.db.query("DELETE FROM events WHERE id <= ?").run(last.id);
    return slice.filter(({ id }) => id <= last.id).length;
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
