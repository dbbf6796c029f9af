/** An attacker who is root in a guest: what he can make the host keep. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { consoleFile } from "../../src/engine/engine.ts";
import { ringTail } from "../../src/engine/ring.ts";
import type { Api } from "../e2e/api.ts";
import { Installation } from "../e2e/harness.ts";

let installation: Installation;
let api: Api;
beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

const sizeOf = (path: string) => (existsSync(path) ? statSync(path).size : 0);

test("a guest that prints to its console without end fills no disk; it can be stopped, and the end is kept", async () => {
  const { engine_id } = await api.create({ name: "prints" });
  const console = consoleFile(`${installation.dataDir}/sandboxes/${engine_id}`);
  const flood = `setsid sh -c 'while :; do head -c 4096 /dev/zero | tr "\\0" x; echo; done >/dev/ttyS0' >/dev/null 2>&1 & sleep 0.1`;
  await api.sh("prints", flood, { user: "root" });
  const bounded = () => {
    expect(sizeOf(console)).toBeLessThanOrEqual(128 << 10);
    expect(sizeOf(`${console}.1`)).toBeLessThanOrEqual(128 << 10);
  };
  // Longer than the ring, however slow the emulated port is.
  for (let i = 0; i < 1800 && sizeOf(`${console}.1`) === 0; i++) await Bun.sleep(100);
  expect(sizeOf(`${console}.1`)).toBeGreaterThan(100_000);
  await Bun.sleep(2000);
  bounded();
  expect(await api.sh("prints", "echo served")).toBe("served");
  await api.stop("prints");
  bounded();
  await api.start("prints");
  const lastWords = "pkill -f [d]ev/zero; sleep 0.3; echo the last words >/dev/ttyS0; sleep 0.3";
  await api.sh("prints", lastWords, { user: "root" });
  const tail = () => ringTail(console, 1000).toString("latin1");
  expect(tail()).toContain("the last words");
  await installation.restart("SIGKILL");
  api = installation.api;
  await api.stop("prints");
  expect(tail()).toContain("the last words");
  await api.destroy("prints");
  expect(existsSync(console)).toBe(false);
}, 360_000);
