/** What Firecracker restores without a word although it must not: refused before it is asked. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import type { VmSpec } from "../engine.ts";
import { isStatic } from "./binaries.ts";
import { assertFits, HEAD, keepState } from "./state.ts";

const MIB = 1024 * 1024;

async function saved() {
  const dir = mkdtempSync("/tmp/bhatti-fc-state-");
  const file = (name: string, size: number) => {
    writeFileSync(`${dir}/${name}`, "");
    truncateSync(`${dir}/${name}`, size);
    return `${dir}/${name}`;
  };
  const spec = {
    shape: { vcpus: 1, memoryMib: 2 },
    memoryPath: file("mem", 2 * MIB),
    drives: [{ id: "root", path: file("disk", 4096), readOnly: false }],
  } as unknown as VmSpec;
  writeFileSync(`${dir}/saved`, "the VMM's own bytes");
  await keepState(spec, "1.16.1", `${dir}/saved`, `${dir}/state`);
  return { dir, spec, state: `${dir}/state` };
}

test("a state is the VMM's bytes behind a head, and fits the machine that it was taken of", async () => {
  const { spec, state } = await saved();
  expect(readFileSync(state).subarray(HEAD).toString()).toBe("the VMM's own bytes");
  await assertFits(spec, "1.16.1", state);
});

test("another version, another disk, other memory or shape are refused by name", async () => {
  const { spec, state, dir } = await saved();
  await expect(assertFits(spec, "1.16.2", state)).rejects.toThrow("firecracker was");
  const wider = { ...spec, shape: { vcpus: 2, memoryMib: 2 } };
  await expect(assertFits(wider, "1.16.1", state)).rejects.toThrow("vcpus was 1, is 2");
  truncateSync(`${dir}/disk`, 8192);
  await expect(assertFits(spec, "1.16.1", state)).rejects.toThrow("drives was [4096], is [8192]");
  truncateSync(`${dir}/mem`, MIB);
  await expect(assertFits(spec, "1.16.1", state)).rejects.toThrow("another size than the memory");
});

test("what is no state is refused: nothing, noise, one of another engine", async () => {
  const { spec, dir } = await saved();
  for (const [name, text] of Object.entries({ empty: "", noise: "A".repeat(9000), number: "7\n" })) {
    writeFileSync(`${dir}/${name}`, text);
    await expect(assertFits(spec, "1.16.1", `${dir}/${name}`)).rejects.toThrow("device state");
  }
});

test("a save keeps nothing empty, follows no link, and replaces nothing", async () => {
  const { spec, dir, state } = await saved();
  await expect(keepState(spec, "1.16.1", `${dir}/saved`, state)).rejects.toThrow("EEXIST");
  expect(readFileSync(state).length).toBeGreaterThan(HEAD);
  symlinkSync("/etc/passwd", `${dir}/link`);
  await expect(keepState(spec, "1.16.1", `${dir}/link`, `${dir}/other`)).rejects.toThrow("ELOOP");
  writeFileSync(`${dir}/none`, "");
  await expect(keepState(spec, "1.16.1", `${dir}/none`, `${dir}/other`)).rejects.toThrow("no device state");
});

test("a program that needs the host's libraries cannot start in the jail", () => {
  expect(isStatic("/bin/sh")).toBe(false);
  expect(isStatic(import.meta.path)).toBe(false);
  expect(isStatic(`${import.meta.dir}/../../../dist/lohar`)).toBe(true);
});
