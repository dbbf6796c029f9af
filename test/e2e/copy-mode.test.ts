/** Without reflinks (ext4): slower, the same behaviour. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { Installation } from "./harness.ts";

let dir: string;
let installation: Installation;

beforeAll(async () => {
  dir = mkdtempSync("/var/tmp/bhatti-copy-");
  installation = await Installation.create({ dataDir: dir });
}, 300_000);
afterAll(async () => {
  await installation?.remove();
  rmSync(dir, { recursive: true, force: true });
}, 120_000);

test("create, stop, start, snapshot, resume, fork with full copies", async () => {
  const { api } = installation;
  expect((await api.ok("GET", "/admin/status")).storage).toBe("copy");
  await api.create({ name: "a" });
  await api.sh("a", "echo 1 >/workspace/x; echo 2 >/dev/shm/y");
  await api.stop("a");
  expect(await api.sh("a", "cat /workspace/x /dev/shm/y")).toBe("1\n2");
  await api.ok("POST", "/sandboxes/a/checkpoint", { name: "s" });
  const copy = await api.ok("POST", "/snapshots/s/resume", { name: "b" });
  expect(await api.sh(copy.id, "cat /workspace/x /dev/shm/y; hostname")).toBe("1\n2\nb");
  const { sandboxes } = await api.ok("POST", "/sandboxes/a/fork", { count: 2 });
  for (const s of sandboxes) expect(await api.sh(s.id, "cat /dev/shm/y")).toBe("2");
  await api.ok("DELETE", "/snapshots/s");
}, 180_000);
