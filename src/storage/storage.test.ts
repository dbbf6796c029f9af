/** Real file systems: a btrfs loop mount and whatever /tmp is. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { run } from "../lib/run.ts";
import { createStorage } from "./create.ts";

let dir: string;
let btrfs: string;

beforeAll(async () => {
  dir = mkdtempSync("/tmp/bhatti-storage-");
  btrfs = `${dir}/mnt`;
  await run(["mkdir", btrfs]);
  await run(["truncate", "-s", "300M", `${dir}/img`]);
  await run(["mkfs.btrfs", "-q", `${dir}/img`]);
  await run(["mount", "-o", "loop", `${dir}/img`, btrfs]);
});
afterAll(async () => {
  await run(["umount", btrfs]).catch(() => {});
  rmSync(dir, { recursive: true, force: true });
});

describe.each(["reflink", "copy"] as const)("mode %s", (mode) => {
  const at = () => (mode === "reflink" ? btrfs : dir);

  test("is found by trying; a clone has content and holes of its source and is its own file", async () => {
    const storage = await createStorage(at(), 0);
    expect(storage.mode).toBe(mode);
    writeFileSync(`${at()}/a`, "hello");
    truncateSync(`${at()}/a`, 20_000_000);
    await storage.clone(`${at()}/a`, `${at()}/b`);
    writeFileSync(`${at()}/a`, "changed");
    expect(readFileSync(`${at()}/b`).subarray(0, 5).toString()).toBe("hello");
    expect(statSync(`${at()}/b`).size).toBe(20_000_000);
    expect((await storage.usage(`${at()}/b`)).allocatedBytes).toBeLessThan(2_000_000);
  });

  test("a clone that fails or is cancelled leaves nothing", async () => {
    const storage = await createStorage(at(), 0);
    await expect(storage.clone(`${at()}/missing`, `${at()}/c`)).rejects.toThrow();
    await expect(storage.clone(`${at()}/a`, `${at()}/c`, AbortSignal.abort())).rejects.toThrow();
    expect(existsSync(`${at()}/c`)).toBe(false);
    expect((await run(["ls", at()])).includes(".tmp")).toBe(false);
  });

  test("disks only grow", async () => {
    const storage = await createStorage(at(), 0);
    writeFileSync(`${at()}/d`, "");
    await storage.growFile(`${at()}/d`, 3);
    expect(statSync(`${at()}/d`).size).toBe(3 * 1024 * 1024);
    await expect(storage.growFile(`${at()}/d`, 1)).rejects.toThrow("cannot shrink");
  });
});

test("promises of space are kept: no more is promised than there is, and given back once", async () => {
  const storage = await createStorage(btrfs, 0);
  const { freeBytes } = storage.free();
  const most = storage.reserve(freeBytes - 1_000_000, "test");
  expect(() => storage.reserve(2_000_000, "more")).toThrow("no disk space for more");
  most.release();
  most.release();
  expect(storage.free().reservedBytes).toBe(0);
  storage.reserve(2_000_000, "again").release();
});

test("a full disk is our own error with a remedy, and leaves nothing", async () => {
  const small = `${dir}/small`;
  await run(["mkdir", small]);
  await run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", small]);
  try {
    const storage = await createStorage(small, 0);
    writeFileSync(`${small}/a`, Buffer.alloc(5_000_000, 1));
    const failed = await storage.clone(`${small}/a`, `${small}/b`).catch((error: unknown) => error);
    expect(failed).toMatchObject({ code: "disk_full", remedy: expect.stringContaining("destroy") });
    expect((await run(["ls", "-A", small])).trim()).toBe("a");
    await run(["rm", `${small}/a`]);
    writeFileSync(`${small}/a`, Buffer.alloc(3_000_000, 1));
    await storage.clone(`${small}/a`, `${small}/b`); // the twin: with room the same call succeeds
    expect(statSync(`${small}/b`).size).toBe(3_000_000);
  } finally {
    await run(["umount", small]);
  }
});
