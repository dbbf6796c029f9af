/** A follower over HTTP that does not read. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { Hono } from "hono";
import { createLog } from "../lib/log.ts";
import { Store } from "../store/store.ts";
import type { AppEnv } from "../users/app-env.ts";
import type { User } from "../users/user.ts";
import { EventLog, eventMigrations } from "./event-log.ts";
import { type EventRouteDeps, eventRoutes } from "./routes.ts";

test("for who follows and does not read no more is held than the log's own bound; who reads gets all", async () => {
  const dir = mkdtempSync("/tmp/bhatti-follow-");
  const events = new EventLog(
    `${dir}/events.db`,
    new Store(`${dir}/state.db`, eventMigrations),
    createLog("silent"),
  );
  const app = new Hono<AppEnv>();
  app.use(async (c, next) => {
    c.set("user", { id: "u", admin: false } as User);
    await next();
  });
  app.route("/", eventRoutes({ events, userName: () => undefined } as unknown as EventRouteDeps));
  const open = async () => (await app.request("/events?follow=true")).body!.getReader();
  const [sleeps, reads] = [await open(), await open()];
  const count = async (reader: typeof reads, until: number) => {
    let lines = 0;
    while (lines < until) {
      const { value, done } = await reader.read();
      if (done) break;
      if (value.length > 1) lines++;
    }
    return lines;
  };
  const all = count(reads, 6000);
  for (let i = 0; i < 60; i++) {
    for (let j = 0; j < 100; j++) events.record({ type: "t", userId: "u", meta: {} });
    await Bun.sleep(1);
    events.list({ limit: 1 });
  }
  expect(await all).toBe(6000);
  // It was ended: what was held for it comes, and then the end.
  const late = await count(sleeps, 6000);
  expect(late).toBeGreaterThan(0);
  expect(late).toBeLessThan(2500);
  await reads.cancel();
  await events.stop();
  rmSync(dir, { recursive: true });
});
