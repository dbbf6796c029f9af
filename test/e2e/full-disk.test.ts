/**
 * A full disk takes nobody's memory: one guest fills the data disk, then the host does, then the disk below runs full, while
 * ten others count, allocate and write. All ten go on, the daemon answers all the time, and nobody helps.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, rmSync, statfsSync } from "node:fs";
import { hex } from "../../src/lib/ids.ts";
import { run } from "../../src/lib/run.ts";
import { levelsOf } from "../../src/storage/watermark.ts";
import type { Api, Json } from "./api.ts";
import { BASE, Installation, prepareBase } from "./harness.ts";

const OTHERS = Array.from({ length: 10 }, (_, i) => `n${i}`);
const MB = 1048576;
/** An answer of the daemon that takes longer is none, ms: the machine of the tests is busy. */
const ANSWER_MS = 30_000;

const name = `full-${hex(3)}`;
const host = `${BASE}/${name}-host`;
const dataDir = `${BASE}/${name}`;
const image = `/dev/shm/${name}.ext4`;
let installation: Installation;
let api: Api;
let pids: number[];
const unanswered: string[] = [];
let asking = true;
let asked: Promise<void>;

beforeAll(async () => {
  await prepareBase();
  // The host's own file system, with both files allocated in it; in memory, where only what is written takes room.
  await run(["truncate", "-s", "9G", image]);
  await run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", image]);
  for (const dir of [host, dataDir]) mkdirSync(dir, { mode: 0o700 });
  await run(["mount", "-o", "loop", image, host]);
  await run(["fallocate", "-l", "3584MiB", `${host}/data.btrfs`]);
  await run(["mkfs.btrfs", "-q", "-K", `${host}/data.btrfs`]);
  await run(["mount", "-o", "loop,noatime", `${host}/data.btrfs`, dataDir]);
  await run(["chmod", "700", dataDir]);
  installation = await Installation.create({
    dataDir,
    config: { memory_pool_file: `${host}/memory.img`, memory_pool_mb: 4096, memory_budget_mb: 6000 },
  });
  api = installation.api;
  for (const other of OTHERS) {
    await api.create({ name: other });
    await api.sh(
      other,
      `head -c 20000000 /dev/urandom >/dev/shm/canary; md5sum /dev/shm/canary >/dev/shm/sum
      nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i >/dev/shm/c; mv /dev/shm/c /dev/shm/count; echo $i >/workspace/w; sync /workspace/w; echo $i >/dev/shm/written; [ $i -lt 300 ] && head -c 200000 /dev/urandom >>/dev/shm/grown; sleep 0.5; done' >/dev/null 2>&1 &
      sleep 1`,
    );
  }
  pids = OTHERS.map((other) => installation.vmmPid(other));
  asked = (async () => {
    while (asking) {
      await fetch(`${installation.url}/sandboxes`, {
        headers: { authorization: `Bearer ${installation.key()}` },
        signal: AbortSignal.timeout(ANSWER_MS),
      }).then(
        (answer) => answer.ok || unanswered.push(String(answer.status)),
        (error) => unanswered.push(String(error)),
      );
      await Bun.sleep(200);
    }
  })();
}, 400_000);

afterAll(async () => {
  asking = false;
  await asked;
  await installation?.remove().catch(() => {});
  for (const at of [dataDir, host])
    await run(["umount", at]).catch(() => run(["umount", "-l", at]).catch(() => {}));
  for (const path of [dataDir, host, image]) rmSync(path, { recursive: true, force: true });
}, 120_000);

const free = () => {
  const fs = statfsSync(dataDir);
  return fs.bavail * fs.bsize;
};

/** What the ten have counted and written until now; who stands still at this moment, what was last seen of it. */
const seen = OTHERS.map(() => [0, 0]);
async function progress(): Promise<number[][]> {
  await Promise.all(
    OTHERS.map(async (other, n) => {
      const cmd = ["cat", "/dev/shm/count", "/dev/shm/written"];
      const { status, body } = await api.call("POST", `/sandboxes/${other}/exec`, { cmd });
      if (status === 200) seen[n] = body.stdout.trim().split("\n").map(Number);
      else if (body.code !== "disk_full") throw new Error(`${other}: ${status} ${JSON.stringify(body)}`);
    }),
  );
  return [...seen];
}

/**
 * All ten count, allocate and write, with the memory and the VM they had. A write that met the end of the disk may hold one up
 * for a moment; nobody stands still for good.
 */
async function allGoOn(what: string): Promise<void> {
  const before = await progress();
  let stuck: string[] = [];
  for (let i = 0; i < 30; i++) {
    await Bun.sleep(1000);
    const after = await progress();
    stuck = OTHERS.filter((_, n) => after[n]!.some((value, k) => value <= before[n]![k]!));
    if (stuck.length === 0) break;
  }
  expect({ what, stuck }).toEqual({ what, stuck: [] });
  for (const other of OTHERS) {
    await api.until(other, (view: Json) => !view.paused, 30_000);
    expect(await api.sh(other, "md5sum -c /dev/shm/sum")).toContain("OK");
  }
  expect(OTHERS.map((other) => installation.vmmPid(other))).toEqual(pids);
  expect(unanswered.splice(0)).toEqual([]);
}

const fill = (file: string) => run(["dd", "if=/dev/zero", `of=${file}`, "bs=1M"]).catch(() => {});

test("one guest fills the disk: it stands still before the end, says so, and goes on by itself when there is room", async () => {
  await run(["fallocate", "-l", String(free() - levelsOf(3584 * MB).low - 400 * MB), `${dataDir}/somebodys`]);
  await api.create({ name: "filler", disk_size_mb: 8192 });
  await api.exec(
    "filler",
    ["sh", "-c", "dd if=/dev/zero of=/workspace/fill bs=1M count=900; echo $? >/dev/shm/end"],
    {
      detach: true,
      output_file: "/dev/null",
    },
  );
  const stopped = await api.until("filler", (view: Json) => view.paused, 300_000);
  expect(stopped.paused).toMatchObject({ reason: "disk_full", remedy: expect.stringContaining("by itself") });
  expect(Date.now() - Date.parse(stopped.paused.since)).toBeLessThan(60_000);
  expect(free()).toBeGreaterThan(64 * MB);
  const refused = await api.call("POST", "/sandboxes/filler/exec", { cmd: ["true"] });
  expect([refused.status, refused.body.code]).toEqual([507, "disk_full"]);
  expect((await api.call("POST", "/sandboxes", { name: "more", memory_mb: 256 })).body.code).toBe(
    "disk_full",
  );
  await allGoOn("a guest fills the disk");
  rmSync(`${dataDir}/somebodys`);
  await api.until("filler", (view: Json) => !view.paused && view.thermal === "hot", 60_000);
  await allGoOn("there is room again");
  for (let i = 0; (await api.sh("filler", "cat /dev/shm/end 2>/dev/null; :")) === ""; i++) {
    if (i > 240) throw new Error("the filler does not end");
    await Bun.sleep(1000);
  }
  expect(await api.sh("filler", "cat /dev/shm/end; stat -c %s /workspace/fill")).toBe(`0\n${900 * MB}`);
}, 700_000);

test("what a guest deletes is there for the others", async () => {
  const before = free();
  await api.sh("filler", "rm /workspace/fill; sync; fstrim /", { user: "root" });
  for (let i = 0; i < 60 && free() < before + 700 * MB; i++) await Bun.sleep(1000);
  expect(free()).toBeGreaterThan(before + 700 * MB);
  await api.destroy("filler");
}, 120_000);

test("the host fills the data disk to the last byte: all go on, what frees space works, the daemon starts again", async () => {
  await api.create({ name: "victim" });
  await api.create({ name: "sleeper" });
  await fill(`${dataDir}/hosts`);
  await allGoOn("the host fills the data disk");
  await fill(`${dataDir}/hosts2`);
  const more = await api.call("POST", "/sandboxes", { name: "more", memory_mb: 256 });
  expect([more.status, more.body.code]).toEqual([507, "disk_full"]);
  expect(more.body.remedy).toContain("destroy");
  expect((await api.call("GET", "/sandboxes/more")).status).toBe(404);
  expect((await api.call("POST", "/sandboxes/sleeper/checkpoint", { name: "s" })).body.code).toBe(
    "disk_full",
  );
  expect((await api.call("POST", "/sandboxes/sleeper/stop")).status).toBe(200);
  installation.user("late");
  await installation.restart("SIGKILL");
  api = installation.api;
  expect((await api.ok("GET", "/sandboxes")).length).toBe(12);
  expect((await api.call("DELETE", "/sandboxes/victim")).status).toBe(200);
  for (const file of ["hosts", "hosts2"]) rmSync(`${dataDir}/${file}`, { force: true });
  await run(["sync", "-f", dataDir]);
  unanswered.splice(0); // while it was restarted
  await allGoOn("there is room again");
  expect((await api.exec("sleeper", ["echo", "back"])).stdout).toBe("back\n");
  await api.create({ name: "more" });
  for (const one of ["more", "sleeper"]) await api.destroy(one);
}, 400_000);

test("the disk below runs full: nothing of it is felt", async () => {
  await fill(`${host}/others`);
  const fs = statfsSync(host);
  expect(fs.bavail * fs.bsize).toBeLessThan(MB);
  await allGoOn("the host's disk is full");
  await api.create({ name: "more" });
  await api.sh("more", "dd if=/dev/urandom of=/workspace/x bs=1M count=50 2>/dev/null; sync");
  await api.stop("more");
  expect(await api.sh("more", "stat -c %s /workspace/x")).toBe(String(50 * MB));
  await allGoOn("the host's disk is full, and somebody works");
  expect(existsSync(`${dataDir}/ballast`)).toBe(true);
}, 300_000);
