import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createLog } from "../lib/log.ts";
import { Store } from "../store/store.ts";
import { EventLog, eventMigrations } from "./event-log.ts";

test("events are kept in order, filtered, followed; a full queue is counted, not thrown", async () => {
  const dir = mkdtempSync("/tmp/bhatti-events-");
  const store = new Store(`${dir}/state.db`, eventMigrations);
  const events = new EventLog(store, createLog("error"));
  try {
    const end = new AbortController();
    const followed: string[] = [];
    const following = (async () => {
      for await (const event of events.follow({ type: "sandbox." }, end.signal)) followed.push(event.type);
    })();
    events.record({ type: "sandbox.created", userId: "u1", sandboxId: "s1", meta: { name: "a" } });
    events.record({ type: "thermal.wake", userId: "u1", sandboxId: "s1" });
    events.record({ type: "sandbox.destroyed", userId: "u2", sandboxId: "s2" });
    expect(events.list({}).map((e) => e.type)).toEqual([
      "sandbox.created",
      "thermal.wake",
      "sandbox.destroyed",
    ]);
    expect(events.list({ userId: "u1", type: "sandbox." })).toMatchObject([
      { type: "sandbox.created", meta: { name: "a" } },
    ]);
    expect(events.list({ type: "sandbox%" })).toEqual([]);
    expect(events.list({ limit: 1 }).map((e) => e.type)).toEqual(["sandbox.destroyed"]);
    for (let i = 0; i < 20 && followed.length < 2; i++) await Bun.sleep(20);
    end.abort();
    await following;
    expect(followed).toEqual(["sandbox.created", "sandbox.destroyed"]);
    store.db.exec("DROP TABLE events");
    events.record({ type: "lost" });
    for (let i = 0; i < 100; i++) events.record({ type: "lost" });
    expect(events.dropped).toBeGreaterThan(0);
  } finally {
    await events.stop().catch(() => {});
    store.close();
    rmSync(dir, { recursive: true, force: true });
  }
});
