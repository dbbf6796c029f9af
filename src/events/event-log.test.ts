import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createLog } from "../lib/log.ts";
import { Store } from "../store/store.ts";
import { AuthFailures } from "./auth-failures.ts";
import { EventLog, eventMigrations, QUEUE_MAX } from "./event-log.ts";
import { EventStore } from "./event-store.ts";
import type { EventFilter } from "./events.ts";

let dir: string;
let store: Store;
let events: EventLog;

beforeEach(() => {
  dir = mkdtempSync("/tmp/bhatti-events-");
  store = new Store(`${dir}/state.db`, eventMigrations);
  events = new EventLog(`${dir}/events.db`, store, createLog("silent"));
});
afterEach(async () => {
  await events.stop().catch(() => {});
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

test("events are kept in order, filtered, followed", async () => {
  const end = new AbortController();
  const followed: string[] = [];
  const following = (async () => {
    for await (const event of events.follow({ type: "sandbox." }, end.signal)) followed.push(event.type);
  })();
  events.record({ type: "sandbox.created", userId: "u1", sandboxId: "s1", meta: { name: "a" } });
  events.record({ type: "thermal.wake", userId: "u1", sandboxId: "s1" });
  events.record({ type: "sandbox.destroyed", userId: "u2", sandboxId: "s2" });
  const types = (filter: EventFilter) => events.list(filter).map((e) => e.type);
  expect(types({})).toEqual(["sandbox.created", "thermal.wake", "sandbox.destroyed"]);
  expect(events.list({ userId: "u1", type: "sandbox." })).toMatchObject([
    { type: "sandbox.created", meta: { name: "a" } },
  ]);
  expect(types({ type: "sandbox%" })).toEqual([]);
  expect(types({ limit: 1 })).toEqual(["sandbox.destroyed"]);
  expect(types({ sandboxId: "s1", userId: "u1" })).toEqual(["sandbox.created", "thermal.wake"]);
  expect(types({ sandboxId: "s1", userId: "u2" })).toEqual([]);
  expect(types({ type: "sandbox", sinceId: 1 })).toEqual(["sandbox.destroyed"]);
  for (let i = 0; i < 20 && followed.length < 2; i++) await Bun.sleep(20);
  end.abort();
  await following;
  expect(followed).toEqual(["sandbox.created", "sandbox.destroyed"]);
});

test("the queue has a bound that is reached: what is beyond it is counted, the rest is written in slices", async () => {
  for (let i = 0; i < QUEUE_MAX + 50; i++) events.record({ type: "burst", meta: { i } });
  expect(events.dropped).toBe(50);
  const file = new EventStore(`${dir}/events.db`);
  // Nothing was written while they were recorded: nobody waited.
  expect(file.list({}, 10)).toEqual([]);
  await Bun.sleep(1);
  const first = file.list({}, 1_000_000).length;
  expect(first).toBeLessThan(QUEUE_MAX);
  expect(events.list({ limit: 10_000 }).length).toBe(QUEUE_MAX);
  expect(events.list({ limit: 1 })[0]?.meta).toEqual({ i: QUEUE_MAX - 1 });
  file.close();
});

test("a commit waits for no disk, and leaves the database of sandboxes alone", () => {
  events.record({ type: "a" });
  events.list({});
  const file = new EventStore(`${dir}/events.db`);
  expect(file.db.query("PRAGMA synchronous").get()).toEqual({ synchronous: 1 });
  expect(file.list({}, 10).length).toBe(1);
  expect(store.db.query("SELECT count(*) AS n FROM events").get()).toEqual({ n: 0 });
  file.close();
});

test("a write that fails is counted, not thrown", () => {
  const file = new EventStore(`${dir}/events.db`);
  file.db.exec("DROP TABLE events");
  file.close();
  events.record({ type: "lost" });
  expect(() => events.list({})).toThrow();
  expect(events.dropped).toBe(1);
});

test("what local commands left in the other database is taken over", () => {
  const leave = store.db.query(
    "INSERT INTO events (ts, type, user_id, sandbox_id, meta) VALUES (?, ?, 'u', '', '{}')",
  );
  leave.run("2026-01-01T00:00:00.000Z", "user.created");
  expect(events.list({}).map(({ type, userId }) => [type, userId])).toEqual([["user.created", "u"]]);
  expect(events.list({}).length).toBe(1);
});

test("a look-up reads no more than it gives, whatever lies around it", () => {
  const file = new EventStore(`${dir}/events.db`);
  const ts = new Date().toISOString();
  const row = (type: string, user: string) => ({ ts, type, user_id: user, sandbox_id: "s", meta: "{}" });
  file.insert([row("rare.thing", "quiet")]);
  for (let i = 0; i < 50; i++) file.insert(Array.from({ length: 1000 }, () => row("thermal.wake", "loud")));
  // The plan of every question is a search in an index, never a scan.
  const plans: string[] = [];
  const query = file.db.query.bind(file.db);
  file.db.query = ((sql: string) => {
    const slots = sql.match(/\?/g)?.length ?? 0;
    const plan = file.db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(...Array(slots).fill(1)) as {
      detail: string;
    }[];
    plans.push(...plan.map(({ detail }) => detail));
    return query(sql);
  }) as typeof file.db.query;
  expect(file.list({ userId: "nobody" }, 100)).toEqual([]);
  expect(file.list({ type: "rare." }, 100).length).toBe(1);
  expect(file.list({ type: "rare.", userId: "quiet" }, 100).length).toBe(1);
  expect(file.list({ sandboxId: "none", userId: "loud" }, 100)).toEqual([]);
  expect(file.list({ sinceId: 50_000, userId: "loud" }, 100).length).toBe(1);
  expect(plans.length).toBe(5);
  expect(plans[2]).toContain("events_user_type (user_id=? AND type=?");
  for (const plan of plans) expect(plan).toMatch(/^SEARCH events USING INDEX events_\w+ \(\w+=\?/);
  for (const plan of plans) expect(plan).not.toContain("TEMP B-TREE");
  file.close();
});

test("old ones go in slices, and a great number of young ones too", () => {
  const file = new EventStore(`${dir}/events.db`);
  const at = (ts: string) => ({ ts, type: "t", user_id: "u", sandbox_id: "", meta: "{}" });
  file.insert(Array.from({ length: 2500 }, () => at("2026-01-01T00:00:00.000Z")));
  file.insert(Array.from({ length: 500 }, () => at("2026-06-01T00:00:00.000Z")));
  const purge = () => file.purge("2026-03-01T00:00:00.000Z", 10_000);
  expect([purge(), purge(), purge(), purge()]).toEqual([1000, 1000, 500, 0]);
  expect(file.purge("2026-03-01T00:00:00.000Z", 100)).toBe(400);
  expect(file.list({}, 1000).length).toBe(100);
  file.close();
});

test("a flood of one user's events costs nobody else's, also after a restart", () => {
  const path = `${dir}/events.db`;
  const of = (user_id: string) => ({
    ts: "2026-06-01T00:00:00.000Z",
    type: "t",
    user_id,
    sandbox_id: "",
    meta: "{}",
  });
  const first = new EventStore(path);
  first.insert(Array.from({ length: 50 }, () => of("quiet")));
  first.insert(Array.from({ length: 3000 }, () => of("loud")));
  first.close();
  const file = new EventStore(path);
  file.insert(Array.from({ length: 500 }, () => of("loud")));
  while (file.purge("2026-03-01T00:00:00.000Z", 1000) > 0);
  expect(file.list({ userId: "quiet" }, 5000).length).toBe(50);
  expect(file.list({ userId: "loud" }, 5000).length).toBe(950);
  file.close();
});

test("wrong keys: the first of an address is told at once, the others as one", () => {
  const told: unknown[] = [];
  const failures = new AuthFailures({ record: ({ meta }) => told.push(meta) });
  for (let i = 0; i < 1000; i++) failures.add("192.0.2.1");
  for (let i = 0; i < 1000; i++) failures.add(`10.0.${i >> 8}.${i & 255}`);
  expect(told.length).toBeLessThanOrEqual(257);
  failures.flush();
  expect(told).toContainEqual({ ip: "192.0.2.1", count: 999 });
  expect(told).toContainEqual({ ip: "others", count: 744 });
  expect(told.reduce((sum: number, meta) => sum + (meta as { count: number }).count, 0)).toBe(2000);
});
