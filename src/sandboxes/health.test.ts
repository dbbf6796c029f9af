/** Probes of a machine that stands still, with the clock in our hands. */
import { afterEach, expect, setSystemTime, test } from "bun:test";
import type { EventInput } from "../events/events.ts";
import { GuestError } from "../guest/guest.ts";
import { createLog } from "../lib/log.ts";
import { Health, type Watched } from "./health.ts";

const silence = () => Promise.reject(new DOMException("late", "TimeoutError"));

function patient(policy: "none" | "restart", activity: () => Promise<unknown>) {
  const events: EventInput[] = [];
  const restarts: number[] = [];
  const row: Record<string, string> = {
    name: "p",
    on_unresponsive: policy,
    unresponsive_since: "",
    unresponsive_why: "",
    init: "",
    init_status: "",
    secrets: "[]",
  };
  const heard = { quietMs: 60_000, state: "running" };
  const actor = {
    gone: false,
    row,
    thermal: "hot",
    dir: "/nonexistent",
    vm: { state: async () => heard.state },
    guest: { activity: () => activity(), quietMs: () => heard.quietMs },
    isHot: () => true,
    restart: async () => {
      restarts.push(Date.now());
      row.unresponsive_since = "";
    },
    deps: {
      config: { probeEveryS: 0.005 },
      rows: { update: (to: object, patch: object) => Object.assign(to, patch) },
      log: createLog("silent"),
      events: { record: (event: EventInput) => events.push(event) },
    },
  };
  const health = new Health(actor as unknown as Watched);
  health.arm();
  return { health, row, restarts, heard, types: () => events.map((event) => event.type) };
}

afterEach(() => {
  setSystemTime();
});

test("one that is silent is called unresponsive once, and well when it answers again", async () => {
  let answer = silence as () => Promise<unknown>;
  const p = patient("none", () => answer());
  await Bun.sleep(100);
  expect(p.row.unresponsive_why).toBe("its agent does not answer");
  expect(p.types()).toEqual(["sandbox.unresponsive"]);
  await expect(p.health.insist()).rejects.toMatchObject({ code: "guest_unresponsive", status: 504 });
  answer = async () => ({});
  await p.health.insist();
  expect([p.row.unresponsive_since, ...p.types()]).toEqual([
    "",
    "sandbox.unresponsive",
    "sandbox.responsive",
  ]);
  p.health.clear();
  expect(p.restarts).toEqual([]);
});

test("a refusal is an answer, and so is a heartbeat on another connection; what stands still has none to give", async () => {
  const busy = patient("restart", () => Promise.reject(new GuestError("not_configured", "")));
  const slow = patient("restart", silence);
  const still = patient("restart", silence);
  slow.heard.quietMs = 4000;
  still.heard.state = "paused";
  await Bun.sleep(100);
  for (const p of [busy, slow, still]) {
    p.health.clear();
    expect([...p.types(), ...p.restarts]).toEqual([]);
  }
});

test("automatic restarts: after the second silent probe, then later each time, and at once again after a good while", async () => {
  const start = Date.now();
  setSystemTime(start);
  const p = patient("restart", silence);
  const after = async (seconds: number) => {
    setSystemTime(start + seconds * 1000);
    await Bun.sleep(100);
    return p.restarts.length;
  };
  expect(await after(0)).toBe(1);
  expect(await after(59)).toBe(1);
  expect(await after(61)).toBe(2);
  expect(await after(61 + 299)).toBe(2);
  expect(await after(61 + 301)).toBe(3);
  expect(await after(61 + 301 + 901)).toBe(4);
  expect(await after(61 + 301 + 901 + 3599)).toBe(4);
  expect(await after(61 + 301 + 901 + 3601)).toBe(5);
  const rested = 61 + 301 + 901 + 3601 + 7 * 3600;
  expect(await after(rested)).toBe(6);
  expect(await after(rested + 61)).toBe(7);
  p.health.clear();
});

test("what a transition failed with", () => {
  const p = patient("none", silence);
  p.health.clear();
  const other = new Error("no room");
  expect(p.health.diagnose(other)).toBe(other);
  expect(p.row.unresponsive_since).toBe("");
  expect(p.health.diagnose(new GuestError("guest_unresponsive", "x"))).toMatchObject({
    code: "guest_unresponsive",
    remedy: expect.stringContaining("bhatti restart p"),
  });
  expect(p.row.unresponsive_since).not.toBe("");
});
