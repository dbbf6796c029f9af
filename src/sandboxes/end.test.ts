import { expect, test } from "bun:test";
import type { ExitCause } from "../engine/engine.ts";
import { Comeback } from "./comeback.ts";
import { endOf } from "./end.ts";

const exit = (cause: ExitCause, consoleTail = "") => ({ cause, code: null, stderrTail: "", consoleTail });

test.each<[string, ExitCause, string, string, RegExp]>([
  [
    "power-off",
    "poweroff",
    "lohar: end=poweroff by=guest\r\n[ 3.2] reboot: Power down\r\n",
    "poweroff",
    /from inside/,
  ],
  [
    "reboot",
    "reset",
    "lohar: end=reboot by=guest\r\n[ 3.2] reboot: Restarting system\r\n",
    "reboot",
    /from inside/,
  ],
  ["reset without a word", "reset", "", "reboot", /from inside/],
  ["machine that cannot turn off", "reset", "lohar: end=poweroff by=guest\r\n", "poweroff", /from inside/],
  [
    "panic",
    "reset",
    "[ 9.1] Kernel panic - not syncing: sysrq triggered crash\r\n[ 9.2] CPU: 0",
    "panic",
    /sysrq triggered crash$/,
  ],
  [
    "old panic text, then a reboot",
    "reset",
    "Kernel panic - not syncing: x\nlohar: end=reboot by=guest\n",
    "reboot",
    /./,
  ],
  [
    "no memory in the guest",
    "reset",
    "Kernel panic - not syncing: System is deadlocked on memory\n",
    "oom",
    /its kernel ran out/,
  ],
  [
    "no disk",
    "poweroff",
    "lohar: end=failed by=agent the guest cannot run: mount: invalid\r\n",
    "failed",
    /mount: invalid$/,
  ],
  ["killed for memory", "oom", "Kernel panic - not syncing: x", "oom", /the host/],
  ["killed", "crashed", "lohar: end=reboot by=guest\n", "crashed", /unexpectedly/],
])("%s", (_what, cause, console, reason, why) => {
  const end = endOf(exit(cause, console));
  expect(end.reason).toBe(reason as never);
  expect(end.why).toMatch(why);
});

test("what the guest writes is bounded and without control characters", () => {
  const end = endOf(exit("reset", `Kernel panic - not syncing: \x1b[2J${"x".repeat(5000)}`));
  expect(end.why.length).toBeLessThan(400);
  expect(end.why).not.toContain("\x1b");
});

test("a machine that ends again and again comes back later each time; one that ran for long, at once", () => {
  const comeback = new Comeback();
  const waits = Array.from({ length: 12 }, () => comeback.schedule(5000, () => {}));
  expect(waits.slice(0, 4)).toEqual([0, 2000, 4000, 8000]);
  expect(Math.max(...waits)).toBe(300_000);
  expect(comeback.schedule(3_600_000, () => {})).toBe(0);
  comeback.cancel();
});
