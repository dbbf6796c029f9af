/** What is said of a guest that works, without keeping it awake by asking. */
import { expect, test } from "bun:test";
import type { Vm } from "../engine/engine.ts";
import type { Activity, Guest } from "../guest/guest.ts";
import { createLog } from "../lib/log.ts";
import { IdleTimer, type Idling } from "./idle.ts";
import type { SandboxRow } from "./rows.ts";

const idle = { execs: 0, detached: 0, initRunning: false, idleMs: 5000 } as Activity;

function looked(activity: Partial<Activity> | Error, more: Partial<Idling> = {}) {
  let cpuMs = 0;
  const actor: Idling = {
    gone: false,
    row: { keep_hot: 0, warm_after_s: 30 } as SandboxRow,
    thermal: "hot",
    vm: { cpuMs: () => cpuMs } as Vm,
    guest: {
      async activity() {
        if (activity instanceof Error) throw activity;
        return { ...idle, ...activity };
      },
    } as unknown as Guest,
    deps: { log: createLog("silent") },
    lastActivity: Date.now(),
    since: Date.now(),
    isFree: () => true,
    cool: async () => true,
    ...more,
  };
  const timer = new IdleTimer(actor);
  timer.arm();
  timer.clear();
  const { lastActivity } = actor;
  return {
    used: (ms: number) => {
      cpuMs = ms;
    },
    async look() {
      const found = await timer.look();
      expect(actor.lastActivity).toBe(lastActivity);
      return found;
    },
  };
}

test("commands, jobs, init and CPU are told", async () => {
  expect(await looked({ execs: 1, detached: 2, initRunning: true }).look()).toEqual({
    ...{ execs: 1, detached: 2, init_running: true, cpu_percent: null, busy: true },
  });
  expect(await looked({}).look()).toMatchObject({ cpu_percent: null, busy: false });
  const worker = looked({});
  await Bun.sleep(1050);
  expect(await worker.look()).toMatchObject({ cpu_percent: 0, busy: false });
  worker.used(800);
  const busy = await worker.look();
  expect(busy).toMatchObject({ busy: true });
  expect(busy!.cpu_percent).toBeGreaterThan(50);
});

test("nothing is said of one that sleeps or does not answer", async () => {
  expect(await looked({ execs: 1 }, { thermal: "warm" }).look()).toBeNull();
  expect(await looked({ execs: 1 }, { guest: null }).look()).toBeNull();
  expect(await looked(new Error("no answer")).look()).toBeNull();
  // Kept hot, no countdown runs and nothing is measured.
  const kept = { row: { keep_hot: 1, warm_after_s: 30 } as SandboxRow };
  expect(await looked({}, kept).look()).toMatchObject({ cpu_percent: null });
});
