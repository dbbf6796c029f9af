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
  await until("a template and a waiting VM", () => entries("templates").length === 1);
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

  const made = await installation.api.create({ memory_mb: 128 });
  expect(await installation.api.sh(made.id, "hostname; cat /etc/machine-id | tr -d 01 | wc -c")).toMatch(
    new RegExp(`^${made.name}\n[1-9]`),
  );
  expect(entries("sandboxes").length).toBeGreaterThanOrEqual(1);
}, 200_000);
