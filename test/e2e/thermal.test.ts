/** Hot, warm, cold: what cools down, what keeps hot, what a wake brings back. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";
import { keepingTimes } from "./times.ts";

let installation: Installation;
let api: Api;

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

/** ms that the guest's clock is outside the time in which it was asked: a slow machine is not a wrong clock. */
const clockError = async (name: string) => {
  const asked = Date.now();
  const told = Number(await api.sh(name, "date +%s%3N"));
  return Math.max(0, asked - told, told - Date.now());
};

describe("stop and start", () => {
  test("processes, memory and files are where they were; both calls are idempotent", async () => {
    await api.create({ name: "s1" });
    await api.sh(
      "s1",
      "echo data >/workspace/file; nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/counter; sleep 0.05; done' >/dev/null 2>&1 &",
    );
    await Bun.sleep(300);
    const before = Number(await api.sh("s1", "cat /tmp/counter"));
    const stopped = await api.stop("s1");
    expect(stopped).toMatchObject({ status: "stopped", thermal: "cold", reason: "api" });
    expect(stopped.stopped_at).toBeTruthy();
    expect(await api.stop("s1")).toMatchObject({ status: "stopped" });
    await Bun.sleep(1500);
    expect(await api.start("s1")).toMatchObject({ status: "running", thermal: "hot" });
    expect(await api.start("s1")).toMatchObject({ status: "running" });
    expect(await clockError("s1")).toBeLessThan(1000);
    const after = Number(await api.sh("s1", "sleep 0.3; cat /tmp/counter"));
    expect(after).toBeGreaterThan(before);
    expect(await api.sh("s1", "cat /workspace/file")).toBe("data");
    // The counter did not run while it was cold.
    expect(after - before).toBeLessThan(60);
  }, 60_000);

  test("a stopped sandbox wakes on exec, file and port calls; list and get wake nothing", async () => {
    for (const touch of [
      () => api.exec("s1", ["true"]),
      () => api.call("HEAD", "/sandboxes/s1/files?path=/etc/hostname"),
      () => api.call("GET", "/sandboxes/s1/ports"),
    ]) {
      await api.stop("s1");
      await api.ok("GET", "/sandboxes");
      await api.ok("GET", "/ports");
      await api.ok("GET", "/sandboxes/s1?detail=true");
      expect(await api.get("s1")).toMatchObject({ status: "stopped" });
      await touch();
      expect(await api.get("s1")).toMatchObject({ status: "running", thermal: "hot" });
    }
  }, 60_000);

  test("two hundred simultaneous requests to one cold sandbox: one restore, no error", async () => {
    await api.stop("s1");
    const { id } = await api.get("s1");
    // What the engine did, from the daemon's own trace: one line per restore.
    const restores = () =>
      installation
        .log()
        .split("\n")
        .filter((line) => line.includes('"transition":"start"') && line.includes(id)).length;
    const before = restores();
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => api.call("HEAD", "/sandboxes/s1/files?path=/etc/hostname")),
    );
    expect(answers.every((a) => a.status === 200)).toBe(true);
    expect(restores() - before).toBe(1);
    expect((await installation.leftovers()).vmms).toBe(1);
  }, 120_000);

  test("a caller that leaves in the middle of a wake does no harm", async () => {
    await api.stop("s1");
    const leave = new AbortController();
    const call = api
      .call("POST", "/sandboxes/s1/exec", { cmd: ["true"] }, { signal: leave.signal })
      .catch(() => null);
    await Bun.sleep(20);
    leave.abort();
    await call;
    expect((await api.exec("s1", ["echo", "fine"])).stdout).toBe("fine\n");
  }, 60_000);

  test("stop cuts a running exec instead of waiting for it", async () => {
    const long = api.call("POST", "/sandboxes/s1/exec", { cmd: ["sleep", "600"] });
    await api.runs("s1", "sleep 600");
    expect(await api.stop("s1")).toMatchObject({ status: "stopped" });
    expect((await long).status).toBeGreaterThanOrEqual(400);
    expect(await api.sh("s1", "pgrep -x sleep -a || echo none")).not.toContain("600");
  }, 60_000);

  test("stop --sync answers when it is durable", async () => {
    expect(await api.stop("s1", { sync: true })).toMatchObject({ durable: true });
    await api.start("s1");
    expect(await api.get("s1")).toMatchObject({ durable: false });
  }, 60_000);

  test("outbound TCP and names work after each wake", async () => {
    for (let i = 0; i < 3; i++) {
      await api.stop("s1");
      expect(await api.sh("s1", "getent hosts s1.internal | awk '{print $1}'")).toMatch(/^10\./);
      expect(await api.sh("s1", "curl -s -o /dev/null -w '%{http_code}' http://deb.debian.org/debian/")).toBe(
        "200",
      );
    }
    await api.destroy("s1");
  }, 90_000);
});

describe("idle", () => {
  test("hot → warm → cold by their own times, and back on a request", async () => {
    await api.create({ name: "idle", warm_after_s: 2, cold_after_s: 2 });
    await api.sh("idle", "echo 1 >/tmp/x");
    await api.until("idle", (s) => s.thermal === "warm");
    expect(await api.get("idle")).toMatchObject({ status: "running", reason: "idle" });
    expect(await api.sh("idle", "cat /tmp/x")).toBe("1");
    expect(await clockError("idle")).toBeLessThan(1000);
    await api.until("idle", (s) => s.thermal === "warm");
    await api.until("idle", (s) => s.thermal === "cold");
    expect(await api.get("idle")).toMatchObject({ status: "stopped", reason: "idle" });
    expect(await api.sh("idle", "cat /tmp/x")).toBe("1");
    expect(await clockError("idle")).toBeLessThan(1000);
    await api.destroy("idle");
  }, 120_000);

  test("keep_hot stays hot and wakes when it is set", async () => {
    await api.create({ name: "kept", warm_after_s: 1, keep_hot: true });
    await Bun.sleep(3000);
    expect(await api.get("kept")).toMatchObject({ thermal: "hot" });
    await api.ok("PATCH", "/sandboxes/kept", { keep_hot: false });
    await api.until("kept", (s) => s.thermal === "warm");
    expect(await api.ok("PATCH", "/sandboxes/kept", { keep_hot: true })).toMatchObject({
      thermal: "hot",
      keep_hot: true,
    });
    await api.destroy("kept");
  }, 60_000);

  test("a long exec, a download, a detached job and an init script run past the idle time untouched", async () => {
    await api.create({
      name: "busy",
      warm_after_s: 1,
      cold_after_s: 1,
      init: "sleep 5; echo init >/tmp/init-done",
    });
    const pauses = async () =>
      (await api.ok<{ ts: string }[]>("GET", "/events?sandbox=busy&type=thermal.pause&limit=100")).map(
        (event) => Date.parse(event.ts),
      );
    const view = () => api.get("busy");
    /** Runs `work` and asserts that the sandbox was not paused in between. */
    const untouched = async (work: () => Promise<unknown>) => {
      const began = Date.now();
      await work();
      const ended = Date.now();
      expect((await pauses()).filter((at) => at >= began && at <= ended)).toEqual([]);
    };
    await untouched(async () => {
      // The init script keeps it hot by itself.
      await Bun.sleep(3500);
      expect(await view()).toMatchObject({ thermal: "hot" });
      expect(await api.sh("busy", "sleep 4; cat /tmp/init-done")).toBe("init");
    });
    // The control: with nothing to do it is paused, and the events say so.
    await api.until("busy", (s) => s.thermal !== "hot");
    expect((await pauses()).length).toBeGreaterThan(0);
    await untouched(async () => {
      await api.exec("busy", ["sh", "-c", "sleep 4; echo done >/tmp/detached"], { detach: true });
      await Bun.sleep(3500);
    });
    expect(await api.sh("busy", "sleep 1; cat /tmp/detached")).toBe("done");
    await api.sh("busy", "head -c 30000000 /dev/urandom >/tmp/big");
    await untouched(async () => {
      const response = await fetch(`${installation.url}/sandboxes/busy/files?path=/tmp/big`, {
        headers: { authorization: `Bearer ${installation.key()}` },
      });
      let bytes = 0;
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        bytes += chunk.length;
        if (bytes < 4_000_000) await Bun.sleep(100);
      }
      expect(bytes).toBe(30_000_000);
    });
    await api.destroy("busy");
  }, 120_000);

  test("a busy CPU keeps it hot", async () => {
    await api.create({ name: "spin", warm_after_s: 2 });
    await api.sh("spin", "nohup sh -c 'while :; do :; done' >/dev/null 2>&1 & echo");
    await Bun.sleep(6000);
    expect(await api.get("spin")).toMatchObject({ thermal: "hot" });
    await api.destroy("spin");
  }, 60_000);

  test("the memory budget: the longest idle warm one goes cold, and with nothing to spare the answer is clear", async () => {
    const small = await Installation.create({ config: { memory_budget_mb: 700 } });
    try {
      await small.api.create({ name: "a", memory_mb: 256, warm_after_s: 1 });
      await small.api.until("a", (s) => s.thermal === "warm");
      await small.api.create({ name: "b", memory_mb: 256, keep_hot: true });
      await small.api.create({ name: "c", memory_mb: 256, keep_hot: true });
      expect(await small.api.get("a")).toMatchObject({ thermal: "cold", reason: "memory_pressure" });
      const refused = await small.api.call("POST", "/sandboxes", { name: "d", memory_mb: 256 });
      expect(refused.status).toBe(503);
      expect(refused.body).toMatchObject({ code: "memory_full" });
      expect(refused.body.remedy).toContain("bhatti stop");
      expect((await small.api.call("GET", "/sandboxes/d")).status).toBe(404);
    } finally {
      await small.remove();
    }
  }, 180_000);
});

/** Changes one bit in the middle of a file; size and times stay as they were. */
function flipBit(path: string): Promise<void> {
  const bytes = readFileSync(path);
  bytes[Math.floor(bytes.length / 2)]! ^= 1;
  return keepingTimes(path, () => writeFileSync(path, bytes));
}

describe("damage", () => {
  const dirOf = async (name: string) =>
    `${installation.dataDir}/reserved/sandboxes/${(await api.get(name)).engine_id}`;

  test.each([
    ["state truncated", (dir: string) => truncateSync(`${dir}/state.1`, 1000)],
    ["one bit in the middle of the state flipped", (dir: string) => flipBit(`${dir}/state.1`)],
    ["memory truncated", (dir: string) => truncateSync(`${dir}/mem.0`, 4096)],
  ])(
    "%s: refused with the reason, start --force boots the disk",
    async (_what, damage) => {
      await api.create({ name: "hurt" });
      await api.sh("hurt", "echo kept >/workspace/kept; sync; echo lost >/dev/shm/lost");
      await api.stop("hurt");
      await damage(await dirOf("hurt"));
      const refused = await api.call("POST", "/sandboxes/hurt/exec", { cmd: ["true"] });
      expect(refused.status).toBe(500);
      expect(refused.body.error).toContain("use 'bhatti start --force'");
      expect((await api.call("POST", "/sandboxes/hurt/start")).status).toBe(500);
      expect(await api.get("hurt")).toMatchObject({ status: "stopped" });
      expect(await api.start("hurt", { force: true })).toMatchObject({
        status: "running",
        reason: "memory_lost",
      });
      expect(await api.sh("hurt", "cat /workspace/kept; ls /dev/shm; hostname")).toBe("kept\nhurt");
      await api.destroy("hurt");
    },
    120_000,
  );

  test("a state of another CPU or VMM version is refused", async () => {
    await api.create({ name: "moved" });
    await api.stop("moved");
    await installation.stop();
    const db = installation.database();
    db.run("UPDATE sandboxes SET fingerprint = 'other'");
    db.close();
    await installation.start();
    api = installation.api;
    const refused = await api.call("POST", "/sandboxes/moved/exec", { cmd: ["true"] });
    expect(refused.body.error).toContain("another VMM version or on another CPU");
    await api.start("moved", { force: true });
    expect((await api.exec("moved", ["hostname"])).stdout).toBe("moved\n");
    await api.destroy("moved");
  }, 120_000);

  test("guest power-off and a killed VMM: the row says so, the next request boots the disk", async () => {
    await api.create({ name: "off" });
    await api.sh("off", "echo kept >/workspace/kept; sync");
    await api.exec("off", ["sudo", "sh", "-c", "sleep 0.2; echo o >/proc/sysrq-trigger"], { detach: true });
    await api.until("off", (s) => s.status === "stopped");
    expect((await api.get("off")).reason).toBe("poweroff");
    expect(await api.sh("off", "cat /workspace/kept")).toBe("kept");
    process.kill(installation.vmmPid("off"), "SIGKILL");
    await api.until("off", (s) => s.status === "stopped");
    expect((await api.get("off")).reason).toBe("crashed");
    expect(await api.sh("off", "cat /workspace/kept")).toBe("kept");
    await api.destroy("off");
  }, 120_000);
});
