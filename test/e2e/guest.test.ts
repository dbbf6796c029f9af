/** What the agent owes to a guest that is not in the best of health, and to the tools inside. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let api: Api;
const root = { user: "root" };

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
}, 300_000);

afterAll(async () => {
  await installation?.remove();
}, 120_000);

test("identity needs no writable root: stop, wake and fork of a read-only machine", async () => {
  await api.create({ name: "ro" });
  await api.sh("ro", "touch /writable; sync; mount -o remount,ro /", root);
  const readOnly = async (name: string) => {
    expect(await api.sh(name, "touch /x 2>/dev/null && echo rw || echo ro", root)).toBe("ro");
    expect(await api.sh(name, "hostname; cat /etc/hostname")).toBe(`${name}\n${name}`);
    expect(await api.sh(name, "grep -c ^nameserver /etc/resolv.conf")).toBe("1");
  };
  await readOnly("ro");
  await api.stop("ro");
  await readOnly("ro");
  const id = await api.sh("ro", "cat /etc/machine-id");
  await api.ok("POST", "/sandboxes/ro/fork", { count: 1, names: ["ro2"] });
  await readOnly("ro2");
  expect(await api.sh("ro2", "cat /etc/machine-id")).not.toBe(id);
}, 180_000);

for (const [how, command] of [
  ["reboot", ["sudo", "reboot"]],
  ["poweroff", ["sudo", "shutdown", "-P", "now"]],
] as const) {
  test(`${how} typed inside ends the machine in good order`, async () => {
    await api.create({ name: how });
    const denied = await api.exec(how, [how]);
    expect(denied.exit_code).toBe(1);
    expect(denied.stderr).toContain(`sudo ${how}`);
    const before = await api.sh(how, "echo kept >/workspace/file; cat /proc/sys/kernel/random/boot_id");
    await api.call("POST", `/sandboxes/${how}/exec`, { cmd: [...command] });
    await api.until(how, (view) => view.status !== "running" || view.reason === "reboot", 30_000);
    expect(await api.sh(how, "cat /workspace/file")).toBe("kept");
    expect(await api.sh(how, "cat /proc/sys/kernel/random/boot_id")).not.toBe(before);
  }, 120_000);
}
