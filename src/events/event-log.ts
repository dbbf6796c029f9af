/** The event log: a bounded queue in front of a table. Recording never blocks and never throws. */
import type { Logger } from "pino";
import type { Migration, Store } from "../store/store.ts";
import { type EventRow, EventStore, type NewEvent } from "./event-store.ts";
import type { BhattiEvent, EventFilter, EventInput, Events } from "./events.ts";

/** Where events used to be. Local commands that run while no daemon does still leave theirs here: they are collected. */
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
/** Written at once when so many wait, in slices of so many: the loop is never held for longer. */
const SLICE = 200;
export const QUEUE_MAX = 10_000;
const BACKLOG_MAX = 1000;
const RETENTION_DAYS = 90;
/** Whatever their age. */
const MAX_ROWS = 2_000_000;
const RETENTION_EVERY_MS = 3_600_000;
const COLLECT_EVERY_MS = 60_000;

interface Follower {
  filter: EventFilter;
  backlog: BhattiEvent[];
  wake: () => void;
  lost: boolean;
}

export class EventLog implements Events {
  private readonly store: EventStore;
  private queue: NewEvent[] = [];
  private timer: ReturnType<typeof setTimeout> | null = null;
  private readonly followers = new Set<Follower>();
  private readonly timers: ReturnType<typeof setInterval>[];
  /** Events that were lost to a full queue or a failed write. */
  dropped = 0;

  /** `path` of the database of events; `old`: where some still lie; `alone`: see EventStore. */
  constructor(
    path: string,
    private readonly old: Store,
    private readonly log: Logger,
    alone = false,
  ) {
    this.store = open(path, alone, log);
    this.timers = [
      setInterval(() => void this.purge(), RETENTION_EVERY_MS),
      setInterval(() => this.collect(), COLLECT_EVERY_MS),
    ];
    for (const timer of this.timers) timer.unref();
  }

  record({ type, userId = "", sandboxId = "", meta = {} }: EventInput): void {
    if (this.queue.length >= QUEUE_MAX) {
      this.dropped++;
      return;
    }
    const ts = new Date().toISOString();
    this.queue.push({ type, user_id: userId, sandbox_id: sandboxId, meta: JSON.stringify(meta), ts });
    if (this.queue.length === SLICE) this.schedule(0);
    else if (!this.timer) this.schedule(FLUSH_MS);
  }

  list(filter: EventFilter): BhattiEvent[] {
    this.collect();
    while (this.queue.length > 0) this.flush();
    return this.store.list(filter, Math.min(filter.limit ?? 100, 10_000)).map(toEvent);
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
    for (const timer of this.timers) clearInterval(timer);
    while (this.queue.length > 0) this.flush();
    if (this.timer) clearTimeout(this.timer);
    for (const follower of this.followers) {
      follower.lost = true;
      follower.wake();
    }
    this.store.close();
  }

  private schedule(ms: number): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      this.flush();
      if (this.queue.length > 0) this.schedule(0);
    }, ms);
  }

  private flush(): void {
    const batch = this.queue.splice(0, SLICE);
    try {
      for (const row of this.store.insert(batch)) this.publish(toEvent(row));
    } catch (err) {
      this.dropped += batch.length;
      this.log.error({ err }, "events were not written");
    }
  }

  /** Takes over what lies in the other database: first inserted, then deleted. Twice after a crash in between, never lost. */
  private collect(): void {
    const rows = this.old.db.query<EventRow, [number]>("SELECT * FROM events ORDER BY id LIMIT ?").all(1000);
    if (rows.length === 0) return;
    try {
      for (const row of this.store.insert(rows)) this.publish(toEvent(row));
      this.old.db.query("DELETE FROM events WHERE id <= ?").run(rows.at(-1)!.id);
    } catch (err) {
      this.log.error({ err }, "events were not collected");
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

  /** In slices, between which others run. */
  private async purge(): Promise<void> {
    const before = new Date(Date.now() - RETENTION_DAYS * 86_400_000).toISOString();
    try {
      while (this.store.purge(before, MAX_ROWS) > 0) await Bun.sleep(10);
    } catch (err) {
      this.log.error({ err }, "old events were not deleted");
    }
  }
}

/** A disk without room for its first page costs the events until the next start, never the daemon. */
function open(path: string, alone: boolean, log: Logger): EventStore {
  try {
    return new EventStore(path, alone);
  } catch (err) {
    log.error({ err }, "the event log cannot be opened: events are kept in memory");
    return new EventStore(":memory:");
  }
}

const toEvent = (row: EventRow): BhattiEvent => ({
  id: row.id,
  ts: row.ts,
  type: row.type,
  userId: row.user_id,
  sandboxId: row.sandbox_id,
  meta: JSON.parse(row.meta) as Record<string, unknown>,
});
