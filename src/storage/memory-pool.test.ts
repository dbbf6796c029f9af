/** A real reserve: allocated file, XFS, loop device. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { run } from "../lib/run.ts";
import { MemoryPool } from "./memory-pool.ts";
import { isAllocated, mountReserve, reserveDir, unmountReserve } from "./reserve.ts";

const MB = 1048576;
let dir: string;
let image: string;
const choice = () => ({ dataDir: dir, image, sizeMb: 700 });

beforeAll(async () => {
  dir = mkdtempSync("/var/tmp/bhatti-reserve-");
  image = `${dir}/memory.img`;
  await mountReserve(choice(), () => {});
}, 60_000);
afterAll(async () => {
  await unmountReserve(dir);
  rmSync(dir, { recursive: true, force: true });
});

const fill = (path: string, mb: number) =>
  run(["dd", "if=/dev/urandom", `of=${path}`, "bs=1M", `count=${mb}`, "conv=notrunc,fsync"]);

test("every byte of it is allocated, and stays so: a trim gives nothing to the host, holes are filled at the next mount", async () => {
  // In memory: the file system of /var/tmp may know no discards, and then nothing is tried.
  const dataDir = mkdtempSync("/dev/shm/bhatti-reserve-");
  const own = { dataDir, image: `${dataDir}/memory.img`, sizeMb: 512 };
  try {
    await mountReserve(own, () => {});
    expect(isAllocated(own.image)).toBe(true);
    await fill(`${reserveDir(dataDir)}/x`, 50);
    rmSync(`${reserveDir(dataDir)}/x`);
    await run(["sync", "-f", reserveDir(dataDir)]);
    await run(["fstrim", reserveDir(dataDir)]).catch(() => {});
    expect(isAllocated(own.image)).toBe(true);
    await unmountReserve(dataDir);
    await run(["fallocate", "--punch-hole", "-o", String(400 * MB), "-l", String(8 * MB), own.image]);
    expect(isAllocated(own.image)).toBe(false);
    await mountReserve(own, () => {});
    expect(isAllocated(own.image)).toBe(true);
  } finally {
    await unmountReserve(dataDir);
    rmSync(dataDir, { recursive: true, force: true });
  }
}, 60_000);

test("what was promised is there to the last page, shared or not; what was not is refused", async () => {
  const pool = new MemoryPool(dir);
  await pool.promise("templates", "t", 60 * MB, "template");
  const template = `${await pool.makeDir("templates", "t")}/mem`;
  await fill(template, 60);
  pool.settle("templates", "t");
  const each = 64;
  const names: string[] = [];
  for (let i = 0; ; i++) {
    const id = `vm${i}`;
    try {
      await pool.promise("sandboxes", id, each * MB, id);
    } catch (error) {
      expect(error).toMatchObject({ code: "memory_full", remedy: expect.stringContaining("memory-pool") });
      break;
    }
    const file = `${await pool.makeDir("sandboxes", id)}/mem.0`;
    await run(["cp", "--reflink=always", template, file]);
    truncateSync(file, each * MB);
    names.push(file);
  }
  expect(names.length).toBeGreaterThan(3);
  expect(pool.freeBytes()).toBeLessThan(each * MB);
  // All at once, in small pieces first.
  const pieces = (file: string) =>
    run(["dd", "if=/dev/urandom", `of=${file}`, "bs=4k", "count=4000", "seek=1", "conv=notrunc,fsync"]);
  await Promise.all(names.map(pieces));
  await Promise.all(names.map((file) => fill(file, each)));
  for (const file of names) expect(statSync(file).blocks * 512).toBeGreaterThanOrEqual(each * MB);
  // The twin: without the promise there is an end.
  await expect(fill(`${reserveDir(dir)}/more`, 512)).rejects.toThrow("No space left");
  rmSync(`${reserveDir(dir)}/more`, { force: true });
  for (const [i] of names.entries()) await pool.remove("sandboxes", `vm${i}`);
  await pool.remove("templates", "t");
}, 120_000);

test("sleeping memory counts with its blocks, makes room by moving out, and comes back as it was", async () => {
  const pool = new MemoryPool(dir);
  mkdirSync(`${dir}/sandboxes/a`, { recursive: true });
  await pool.promise("sandboxes", "a", 200 * MB, "a");
  const file = `${await pool.makeDir("sandboxes", "a")}/mem.0`;
  await fill(file, 30);
  truncateSync(file, 200 * MB);
  await run(["chown", "200001:200001", file]);
  pool.settle("sandboxes", "a");
  expect(pool.charged("sandboxes", "a")).toBeLessThan(31 * MB);
  expect(new MemoryPool(dir).charged("sandboxes", "a")).toBe(pool.charged("sandboxes", "a"));
  const before = { content: readFileSync(file).subarray(0, 30 * MB), ...statSync(file) };
  pool.makeRoom = [() => pool.moveOut("sandboxes", "a", "mem.0")];
  await pool.promise("sandboxes", "b", pool.capacityBytes, "everything");
  const outside = pool.locate("sandboxes", "a", "mem.0");
  expect(outside).toBe(`${dir}/sandboxes/a/mem.0`);
  expect(existsSync(file)).toBe(false);
  expect(statSync(outside).blocks * 512).toBeLessThan(32 * MB);
  await pool.remove("sandboxes", "b");
  await pool.promise("sandboxes", "a", 200 * MB, "a");
  await pool.bringBack("sandboxes", "a", "mem.0");
  expect(pool.locate("sandboxes", "a", "mem.0")).toBe(file);
  expect(
    readFileSync(file)
      .subarray(0, 30 * MB)
      .equals(before.content),
  ).toBe(true);
  expect(statSync(file)).toMatchObject({
    size: before.size,
    uid: 200001,
    mode: before.mode,
    mtimeMs: before.mtimeMs,
  });
  // Killed between the copy and the removal: the one in the reserve counts.
  writeFileSync(outside, "old");
  expect(pool.locate("sandboxes", "a", "mem.0")).toBe(file);
  await pool.bringBack("sandboxes", "a", "mem.0");
  expect(existsSync(outside)).toBe(false);
  await pool.remove("sandboxes", "a");
}, 60_000);
