/** The event log: a bounded queue in front of a table. Recording never blocks and never throws. */
import type { Logger } from "pino";
import type { Migration, Store } from "../store/store.ts";
import type { BhattiEvent, EventFilter, EventInput, Events } from "./events.ts";

export const eventMigrations: Migration[] = [
  {
    id: "0020-events",
    sql: `
CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  ts TEXT NOT NULL,
  type TEXT NOT NULL,
  user_id TEXT NOT NULL,
  sandbox_id TEXT NOT NULL,
  meta TEXT NOT NULL
) STRICT;
CREATE INDEX events_ts ON events (ts);
CREATE INDEX events_user ON events (user_id, id);
CREATE INDEX events_sandbox ON events (sandbox_id, id);`,
  },
];

const FLUSH_MS = 500;
const FLUSH_COUNT = 100;
const QUEUE_MAX = 1000;
const BACKLOG_MAX = 1000;
const RETENTION_DAYS = 90;
const RETENTION_EVERY_MS = 3_600_000;

interface Row {
  id: number;
  ts: string;
  type: string;
  user_id: string;
  sandbox_id: string;
  meta: string;
}

interface Follower {
  filter: EventFilter;
  backlog: BhattiEvent[];
  wake: () => void;
  lost: boolean;
}

export class EventLog implements Events {
  private queue: (Required<EventInput> & { ts: string })[] = [];
  private timer: ReturnType<typeof setTimeout> | null = null;
  private readonly followers = new Set<Follower>();
  private readonly retention: ReturnType<typeof setInterval>;
  /** Events that were lost to a full queue or a failed write. */
  dropped = 0;

  constructor(
    private readonly store: Store,
    private readonly log: Logger,
  ) {
    this.retention = setInterval(() => this.purge(), RETENTION_EVERY_MS);
    this.retention.unref();
  }

  record({ type, userId = "", sandboxId = "", meta = {} }: EventInput): void {
    if (this.queue.length >= QUEUE_MAX) {
      this.dropped++;
      return;
    }
    this.queue.push({ type, userId, sandboxId, meta, ts: new Date().toISOString() });
    if (this.queue.length >= FLUSH_COUNT) return this.flush();
    this.timer ??= setTimeout(() => this.flush(), FLUSH_MS);
  }

  list(filter: EventFilter): BhattiEvent[] {
    this.flush();
    const rows = this.store.db
      .query<Row, [number, string, string, string, string, string, number]>(
        `SELECT * FROM (SELECT * FROM events WHERE id > ? AND type LIKE ? ESCAPE '\\' AND (? = '' OR user_id = ?) AND (? = '' OR sandbox_id = ?)
         ORDER BY id DESC LIMIT ?) ORDER BY id`,
      )
      .all(
        filter.sinceId ?? 0,
        `${(filter.type ?? "").replace(/[\\%_]/g, "\\$&")}%`,
        filter.userId ?? "",
        filter.userId ?? "",
        filter.sandboxId ?? "",
        filter.sandboxId ?? "",
        Math.min(filter.limit ?? 100, 10_000),
      );
    return rows.map(toEvent);
  }

  async *follow(filter: EventFilter, signal: AbortSignal): AsyncGenerator<BhattiEvent> {
    const follower: Follower = { filter, backlog: [], wake: () => {}, lost: false };
    const onAbort = () => follower.wake();
    signal.addEventListener("abort", onAbort);
    this.followers.add(follower);
    try {
      while (!signal.aborted && !follower.lost) {
        for (const event of follower.backlog.splice(0)) yield event;
        if (follower.backlog.length > 0 || signal.aborted) continue;
        await new Promise<void>((resolve) => {
          follower.wake = resolve;
        });
      }
    } finally {
      this.followers.delete(follower);
      signal.removeEventListener("abort", onAbort);
    }
  }

  async stop(): Promise<void> {
    clearInterval(this.retention);
    this.flush();
    for (const follower of this.followers) {
      follower.lost = true;
      follower.wake();
    }
  }

  private flush(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    const batch = this.queue.splice(0);
    if (batch.length === 0) return;
    try {
      const written = this.store.transaction(() => {
        const insert = this.store.db.query<Row, [string, string, string, string, string]>(
          "INSERT INTO events (ts, type, user_id, sandbox_id, meta) VALUES (?, ?, ?, ?, ?) RETURNING *",
        );
        return batch.map((event) =>
          toEvent(
            insert.get(event.ts, event.type, event.userId, event.sandboxId, JSON.stringify(event.meta))!,
          ),
        );
      });
      for (const event of written) this.publish(event);
    } catch (err) {
      this.dropped += batch.length;
      this.log.error({ err }, "events were not written");
    }
  }

  private publish(event: BhattiEvent): void {
    for (const follower of this.followers) {
      const { type, userId, sandboxId } = follower.filter;
      if (
        (type && !event.type.startsWith(type)) ||
        (userId && event.userId !== userId) ||
        (sandboxId && event.sandboxId !== sandboxId)
      )
        continue;
      if (follower.backlog.length >= BACKLOG_MAX) follower.lost = true;
      else follower.backlog.push(event);
      follower.wake();
    }
  }

  private purge(): void {
    const before = new Date(Date.now() - RETENTION_DAYS * 86_400_000).toISOString();
    this.store.db.query("DELETE FROM events WHERE ts < ?").run(before);
  }
}

const toEvent = (row: Row): BhattiEvent => ({
  id: row.id,
  ts: row.ts,
  type: row.type,
  userId: row.user_id,
  sandboxId: row.sandbox_id,
  meta: JSON.parse(row.meta) as Record<string, unknown>,
});
