/** A snapshot whose memory moves out of the reserve while somebody wants it. */
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
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
    rows: { all: () => [row], find: () => row, byId: () => null },
    engine: { fingerprint: () => "f" },
    storage: { tryReserve: () => ({ release() {} }) },
    events: { record() {} },
    config: { dataDir },
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
  const moved = service.moveOutOne();
  const resumed = service.resume({ id: "u" } as User, "s", {});
  setTimeout(gate.resolve, 100);
  expect(await moved).toBe(true);
  await resumed;
  expect(found).toEqual([true]);
  expect(existsSync(`${dir}/mem`)).toBe(true);
  rmSync(dataDir, { recursive: true });
});
