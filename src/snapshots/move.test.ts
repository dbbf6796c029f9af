/** A snapshot whose memory moves out of the reserve while somebody wants it. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { sha256 } from "../lib/hash.ts";
import { MemoryPool } from "../storage/memory-pool.ts";
import type { CloneSource } from "../templates/clone-source.ts";
import type { User } from "../users/user.ts";
import { seal } from "./files.ts";
import type { SnapshotRow } from "./rows.ts";
import { type SnapshotDeps, SnapshotService } from "./snapshots.ts";

test("a resume in that moment finds the memory where it is then", async () => {
  const dataDir = mkdtempSync("/tmp/bhatti-move-");
  const dir = `${dataDir}/snapshots/s1`;
  const reserve = `${dataDir}/reserved/snapshots/s1`;
  for (const path of [dir, reserve]) mkdirSync(path, { recursive: true });
  for (const name of ["disk", "state"]) writeFileSync(`${dir}/${name}`, name);
  writeFileSync(`${reserve}/mem`, Buffer.alloc(1048576, 1));
  const files = await seal((name) => `${name === "mem" ? reserve : dir}/${name}`, "memory", 1);
  const row = {
    ...{ id: "s1", user_id: "u", name: "s", status: "ready", kind: "memory", memory_mb: 1, fingerprint: "f" },
    settings: "{}",
    secrets: "[]",
    ...{ env: "{}", labels: "{}", files: JSON.stringify(files), state_sha256: await sha256(`${dir}/state`) },
  } as SnapshotRow;
  const memoryPool = new MemoryPool(dataDir);
  const gate = Promise.withResolvers<void>();
  const moveOut = memoryPool.moveOut.bind(memoryPool);
  memoryPool.moveOut = async (...args) => {
    await gate.promise; // gigabytes
    return moveOut(...args);
  };
  const found: boolean[] = [];
  const service = new SnapshotService({
    rows: { all: () => [row], ready: () => row, byId: () => null },
    engine: { fingerprint: () => "f" },
    storage: { tryReserve: () => ({ release() {} }) },
    events: { record() {} },
    config: { dataDir },
    currentKernel: () => "k",
    memoryPool,
    sandboxes: {
      async createFrom(_user: User, _want: unknown, clone: CloneSource) {
        gate.resolve();
        await moved; // it waits for its place among the machines that come up
        found.push(existsSync(clone.memory));
        return { id: "b" };
      },
    },
  } as unknown as SnapshotDeps);
  const moved = service.places.moveOutOne();
  const resumed = service.resume({ id: "u" } as User, "s", {});
  setTimeout(gate.resolve, 100);
  expect(await moved).toBe(true);
  await resumed;
  expect(found).toEqual([true]);
  expect(existsSync(`${dir}/mem`)).toBe(true);
  rmSync(dataDir, { recursive: true });
});

test("a daemon that died in that moment leaves halves: a start removes them, and what is whole stays", async () => {
  const dataDir = mkdtempSync("/tmp/bhatti-move-");
  const files = {
    copying: ["snapshots/copying/mem.moving", "reserved/snapshots/copying/mem"],
    there: ["snapshots/there/mem", "reserved/snapshots/there/mem"],
    moved: ["snapshots/moved/mem"],
    half: ["snapshots/half/mem.moving", "reserved/snapshots/half/mem"],
  };
  for (const [id, names] of Object.entries(files)) {
    for (const name of [...names, `snapshots/${id}/disk`, `snapshots/${id}/state`]) {
      mkdirSync(dirname(`${dataDir}/${name}`), { recursive: true });
      writeFileSync(`${dataDir}/${name}`, name);
    }
  }
  const rows = Object.keys(files).map((id) => ({
    ...{ id, kind: "memory", status: id === "half" ? "deleting" : "ready" },
  }));
  const service = new SnapshotService({
    rows: { all: () => rows, delete() {} },
    config: { dataDir },
    memoryPool: new MemoryPool(dataDir),
  } as unknown as SnapshotDeps);
  await service.start();
  const left = [...new Bun.Glob("**/*").scanSync(dataDir)].sort();
  expect(left.filter((path) => path.includes("mem"))).toEqual([
    "reserved/snapshots/copying/mem",
    "reserved/snapshots/there/mem",
    "snapshots/moved/mem",
  ]);
  expect(left.filter((path) => !path.includes("mem"))).toHaveLength(6);
  rmSync(dataDir, { recursive: true });
});
