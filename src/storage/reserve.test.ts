import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { run } from "../lib/run.ts";
import { mountedAt, mountReserve, reserveDir, unmountReserve } from "./reserve.ts";

const isRoot = process.getuid?.() === 0;
const dataDir = mkdtempSync("/var/tmp/bhatti-reserve-");
const choice = { dataDir, image: `${dataDir}.img`, sizeMb: 512 };

afterAll(async () => {
  await unmountReserve(dataDir).catch(() => {});
  for (const path of [dataDir, choice.image]) rmSync(path, { recursive: true, force: true });
});

test.skipIf(!isRoot)(
  "a reserve that another mount namespace still holds is mounted again, with what is in it",
  async () => {
    await mountReserve(choice, () => {});
    const file = `${reserveDir(dataDir)}/kept`;
    writeFileSync(file, "kept");
    const held = mountedAt(reserveDir(dataDir))!;
    const holder = Bun.spawn(["unshare", "--mount", "--propagation", "private", "sleep", "60"]);
    try {
      const ours = readlinkSync("/proc/self/ns/mnt");
      while (readlinkSync(`/proc/${holder.pid}/ns/mnt`) === ours) await Bun.sleep(10);
      await Bun.sleep(100);
      await unmountReserve(dataDir);
      expect(mountedAt(reserveDir(dataDir))).toBeNull();
      expect(await run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE", held])).toContain(
        choice.image,
      );
      await mountReserve(choice, () => {});
      expect(await Bun.file(file).text()).toBe("kept");
    } finally {
      holder.kill("SIGKILL");
      await holder.exited;
    }
  },
  60_000,
);
