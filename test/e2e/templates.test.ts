/** Templates and waiting VMs that are made ahead. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { Installation } from "./harness.ts";

let installation: Installation;
beforeAll(async () => {
  installation = await Installation.create({ config: { templates: [{ memory_mb: 128 }], vm_pool: 1 } });
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

const entries = (dir: string) =>
  readdirSync(`${installation.dataDir}/${dir}`).filter((name) => !/^(\.|template-)/.test(name));

/** Waits until `done`; fails after a minute with what was there. */
async function until(what: string, done: () => boolean): Promise<void> {
  for (const end = Date.now() + 60_000; !done(); await Bun.sleep(100)) {
    if (Date.now() > end) throw new Error(`not within a minute: ${what}\n${installation.log().slice(-2000)}`);
  }
}

test("a configured shape is ready before the first create, and again when its image was replaced", async () => {
  await until("a template", () => entries("templates").length === 1);
  await until("a waiting VM", () => entries("sandboxes").length === 1);
  const [first] = entries("sandboxes");

  const manifest = `${installation.dataDir}/images/minimal.json`;
  const changed = { ...JSON.parse(readFileSync(manifest, "utf8")), sha256: "0".repeat(64) };
  writeFileSync(`${manifest}.new`, JSON.stringify(changed));
  renameSync(`${manifest}.new`, manifest);
  await until("a template of the new image", () => entries("templates").length === 2);
  await until("a waiting VM of the new image, none of the old one", () => {
    const waiting = entries("sandboxes");
    return waiting.length === 1 && waiting[0] !== first;
  });

  // Its directory is there before the VM is ready: a create that comes too early makes its own.
  const { api } = installation;
  let waiting: string[] = [];
  let made = { id: "", name: "", engine_id: "" };
  for (const end = Date.now() + 60_000; !waiting.includes(made.engine_id); ) {
    if (Date.now() > end) throw new Error("no create got a waiting VM within a minute");
    if (made.id) await api.destroy(made.id);
    await Bun.sleep(1000);
    waiting = entries("sandboxes");
    made = (await api.create({ memory_mb: 128 })) as typeof made;
  }
  // Nothing is left of the placeholders it was warmed up with.
  const [hostname, machineId] = (await api.sh(made.id, "hostname; cat /etc/machine-id")).split("\n");
  expect(hostname).toBe(made.name);
  expect(machineId).toMatch(/^[0-9a-f]{32}$/);
  expect(machineId).not.toMatch(/^(0+|1+)$/);
}, 200_000);

test("VMs that could not be prepared for want of memory are prepared when it comes back", async () => {
  const small = await Installation.create({
    config: { templates: [{ memory_mb: 128 }], vm_pool: 1, memory_budget_mb: 700 },
  });
  try {
    const waiting = () =>
      readdirSync(`${small.dataDir}/sandboxes`).filter((name) => !/^(\.|template-)/.test(name));
    await until("a waiting VM", () => waiting().length === 1);
    // Takes the waiting VM's memory away, and more than half of the budget with it.
    const { id, engine_id } = await small.api.create({ memory_mb: 512 });
    await until("no waiting VM", () => waiting().join() === engine_id);
    await Bun.sleep(3000);
    expect(waiting()).toEqual([engine_id]);
    await small.api.destroy(id);
    await until("a waiting VM again", () => waiting().length === 1);
  } finally {
    await small.remove();
  }
}, 200_000);
