/** Limits of cgroup v2, on a machine that has it: what a VMM burns, its neighbours keep. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { Lab } from "./machine.ts";

let lab: Lab;
beforeAll(async () => {
  lab = await Lab.start();
}, 900_000);
afterAll(async () => {
  await lab?.stop();
}, 60_000);

/** Answer of inside/cgroups.ts, which runs a burner in a group as a VMM's. */
const burn = async (what: string) =>
  JSON.parse(await lab.ok(`cd /root/src && node_modules/.bin/bun test/lab/inside/cgroups.ts ${what}`));

test("the lab is a machine with systemd, all controllers and KVM", async () => {
  expect(await lab.ok("cat /sys/fs/cgroup/cgroup.controllers")).toMatch(/cpu .*memory .*pids/);
  expect(await lab.ok("systemctl is-system-running --wait || true")).toMatch(/running|degraded/);
  expect(await lab.ok("modprobe kvm_amd && ls -l /dev/kvm")).toContain("/dev/kvm");
}, 120_000);

test("CPU: half a CPU is half a CPU; without a group the same program takes a whole one", async () => {
  const { limited, free } = await burn("cpu");
  expect(limited).toBeGreaterThan(0.3);
  expect(limited).toBeLessThan(0.6);
  expect(free).toBeGreaterThan(0.8);
}, 120_000);

test("memory: more than guest and overhead ends the process, and nobody else", async () => {
  expect(await burn("memory")).toEqual({ limited: "killed", free: "lives", oomKills: 1 });
}, 120_000);

test("processes: the 257th is refused; without a group it is not", async () => {
  const { limited, free } = await burn("pids");
  expect(limited).toBeGreaterThan(200);
  expect(limited).toBeLessThanOrEqual(256);
  expect(free).toBe(400);
}, 120_000);
