/** The daemon or the VMM dies at every step of every transition; the disk fills up; nothing leaks, nothing is lost. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import type { Api } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let api: Api;

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
  await api.create({ name: "warm-up" }); // builds the template
  await api.destroy("warm-up");
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

/** After a death of the daemon: starts it again and asserts that only `names` are left, each with one VMM at most. */
async function recovered(names: string[]): Promise<void> {
  await installation.ended();
  expect(installation.faultFired()).toBe(true);
  await installation.start();
  api = installation.api;
  const list = await api.ok<{ name: string; status: string; engine_id: string }[]>("GET", "/sandboxes");
  expect(list.map((s) => s.name).sort()).toEqual([...names].sort());
  expect(list.every((s) => s.status === "running" || s.status === "stopped")).toBe(true);
  const left = await installation.leftovers();
  expect(left.vmms).toBe(list.filter((s) => s.status === "running").length);
  expect(left.dirs.sort()).toEqual(list.map((s) => s.engine_id).sort());
}

/** Never an error to the outside that is not an error of the connection or a server's answer. */
const quietly = (call: Promise<unknown>) => call.catch(() => null);

describe("daemon killed while it creates", () => {
  test.each([
    "create:begin",
    "create:prepared",
    "create:vmm",
    "create:vmm-known",
    "create:running",
    "create:agent",
    "create:configured",
  ])(
    "at %s everything is undone",
    async (point) => {
      installation.fault("kill", point);
      await quietly(api.call("POST", "/sandboxes", { name: "victim", memory_mb: 256 }));
      await recovered([]);
    },
    60_000,
  );

  test("at create:end it is there and runs", async () => {
    installation.fault("kill", "create:end");
    await quietly(api.call("POST", "/sandboxes", { name: "victim", memory_mb: 256 }));
    await recovered(["victim"]);
    expect((await api.exec("victim", ["hostname"])).stdout).toBe("victim\n");
  }, 60_000);

  test.each(["destroy:begin", "destroy:killed", "destroy:removed", "destroy:end"])(
    "at %s the destroy is finished",
    async (point) => {
      await api.create({ name: "victim" });
      installation.fault("kill", point);
      await quietly(api.call("DELETE", "/sandboxes/victim"));
      await recovered([]);
    },
    60_000,
  );
});

describe("with a counter inside", () => {
  const counter = () => api.sh("keep", "cat /tmp/counter");

  beforeAll(async () => {
    await api.create({ name: "keep" });
    await api.sh(
      "keep",
      "echo precious >/workspace/precious; sync; nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/c.new; mv /tmp/c.new /tmp/counter; sleep 0.1; done' >/dev/null 2>&1 & sleep 0.3",
    );
  }, 60_000);

  test.each(["stop:begin", "stop:frozen", "stop:paused", "stop:saved"])(
    "daemon killed at %s: it runs on",
    async (point) => {
      const before = Number(await counter());
      installation.fault("kill", point);
      await quietly(api.call("POST", "/sandboxes/keep/stop"));
      await recovered(["keep"]);
      expect(await api.get("keep")).toMatchObject({ status: "running" });
      const after = Number(await api.sh("keep", "sleep 0.5; cat /tmp/counter"));
      expect(after).toBeGreaterThan(before);
      expect(await api.sh("keep", "sleep 0.3; cat /tmp/counter")).not.toBe(String(after));
    },
    60_000,
  );

  test.each(["stop:kill", "stop:end"])(
    "daemon killed at %s: it is cold and wakes with its memory",
    async (point) => {
      const before = Number(await counter());
      installation.fault("kill", point);
      await quietly(api.call("POST", "/sandboxes/keep/stop"));
      await recovered(["keep"]);
      expect(await api.get("keep")).toMatchObject({ status: "stopped", thermal: "cold" });
      expect(Number(await counter())).toBeGreaterThanOrEqual(before);
    },
    60_000,
  );

  test.each(["start:verified", "start:begin", "start:network", "start:loaded"])(
    "daemon killed at %s: the saved memory is still good",
    async (point) => {
      const before = Number(await counter());
      await api.stop("keep");
      installation.fault("kill", point);
      await quietly(api.call("POST", "/sandboxes/keep/start"));
      await recovered(["keep"]);
      expect(await api.get("keep")).toMatchObject({ status: "stopped" });
      expect(Number(await counter())).toBeGreaterThanOrEqual(before);
    },
    60_000,
  );

  test.each(["start:consumed", "start:resumed", "start:configured", "start:end"])(
    "daemon killed at %s: the VM is adopted and goes on",
    async (point) => {
      const before = Number(await counter());
      await api.stop("keep");
      installation.fault("kill", point);
      await quietly(api.call("POST", "/sandboxes/keep/start"));
      await recovered(["keep"]);
      expect(await api.get("keep")).toMatchObject({ status: "running" });
      expect(Number(await api.sh("keep", "sleep 0.3; cat /tmp/counter"))).toBeGreaterThan(before);
      const asked = Date.now();
      const told = Number(await api.sh("keep", "date +%s%3N"));
      expect(Math.max(asked - told, told - Date.now())).toBeLessThan(1000);
    },
    60_000,
  );

  test.each([
    "snapshot:begin",
    "checkpoint:begin",
    "checkpoint:flushed",
    "checkpoint:frozen",
    "checkpoint:saved",
    "checkpoint:copied",
    "checkpoint:resumed",
    "checkpoint:end",
    "snapshot:filled",
  ])(
    "daemon killed at %s: no half snapshot, the source runs on",
    async (point) => {
      const before = Number(await counter());
      installation.fault("kill", point);
      await quietly(api.call("POST", "/sandboxes/keep/checkpoint", { name: "half" }));
      await recovered(["keep"]);
      expect(await api.ok("GET", "/snapshots")).toEqual([]);
      expect(readdirSync(`${installation.dataDir}/snapshots`)).toEqual([]);
      expect((await api.call("POST", "/snapshots/half/resume", {})).status).toBe(404);
      expect(Number(await api.sh("keep", "sleep 0.3; cat /tmp/counter"))).toBeGreaterThan(before);
    },
    60_000,
  );

  test("daemon killed at snapshot:ready: the snapshot is whole; at snapshot-delete:marked it is gone", async () => {
    installation.fault("kill", "snapshot:ready");
    await quietly(api.call("POST", "/sandboxes/keep/checkpoint", { name: "whole" }));
    await recovered(["keep"]);
    const copy = await api.ok("POST", "/snapshots/whole/resume", { name: "copy" });
    expect(await api.sh(copy.id, "cat /workspace/precious")).toBe("precious");
    await api.destroy(copy.id);
    installation.fault("kill", "snapshot-delete:marked");
    await quietly(api.call("DELETE", "/snapshots/whole"));
    await recovered(["keep"]);
    expect(await api.ok("GET", "/snapshots")).toEqual([]);
    expect(readdirSync(`${installation.dataDir}/snapshots`)).toEqual([]);
  }, 90_000);

  test.each(["fork:begin", "fork:filled"])(
    "daemon killed at %s: no fork, nothing of it is left, the source runs on",
    async (point) => {
      const before = Number(await counter());
      installation.fault("kill", point);
      await quietly(api.call("POST", "/sandboxes/keep/fork", { count: 2, names: ["f1", "f2"] }));
      await recovered(["keep"]);
      expect(readdirSync(`${installation.dataDir}/snapshots`)).toEqual([]);
      expect(Number(await api.sh("keep", "sleep 0.3; cat /tmp/counter"))).toBeGreaterThan(before);
    },
    60_000,
  );

  test("daemon killed at fork:cloned: the forks are whole and run on", async () => {
    installation.fault("kill", "fork:cloned");
    await quietly(api.call("POST", "/sandboxes/keep/fork", { count: 2, names: ["f1", "f2"] }));
    await recovered(["f1", "f2", "keep"]);
    expect(readdirSync(`${installation.dataDir}/snapshots`)).toEqual([]);
    for (const name of ["f1", "f2"]) {
      expect(await api.sh(name, "hostname; cat /workspace/precious")).toBe(`${name}\nprecious`);
      await api.destroy(name);
    }
  }, 90_000);

  test("an error while it is copied leaves the source running and no snapshot", async () => {
    for (const [action, point] of [
      ["throw", "checkpoint:saved"],
      ["enospc", "checkpoint:copied"],
      ["throw", "snapshot:filled"],
    ] as const) {
      installation.fault(action, point);
      expect(
        (await api.call("POST", "/sandboxes/keep/checkpoint", { name: "half" })).status,
      ).toBeGreaterThanOrEqual(500);
      expect(installation.faultFired()).toBe(true);
      expect(await api.ok("GET", "/snapshots")).toEqual([]);
      const now = await counter();
      expect(await api.sh("keep", "sleep 0.3; cat /tmp/counter")).not.toBe(now);
    }
  }, 60_000);

  test("an error while it is stopped leaves it running", async () => {
    for (const [action, point] of [
      ["throw", "stop:frozen"],
      ["enospc", "stop:saved"],
    ] as const) {
      installation.fault(action, point);
      expect((await api.call("POST", "/sandboxes/keep/stop")).status).toBeGreaterThanOrEqual(500);
      expect(installation.faultFired()).toBe(true);
      expect(await api.get("keep")).toMatchObject({ status: "running", thermal: "hot" });
      const now = await counter();
      expect(await api.sh("keep", "sleep 0.3; cat /tmp/counter")).not.toBe(now);
    }
  }, 60_000);

  test("five sandboxes with a counter outlive the daemon's death, and its ordinary restart", async () => {
    const names = ["k1", "k2", "k3", "k4"];
    await Promise.all(names.map((name) => api.create({ name })));
    await Promise.all(
      names.map((name) =>
        api.sh(
          name,
          "nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/c.new; mv /tmp/c.new /tmp/counter; sleep 0.1; done' >/dev/null 2>&1 & sleep 0.3",
        ),
      ),
    );
    const all = [...names, "keep"];
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      const before = await Promise.all(
        all.map((name) => api.sh(name, "cat /tmp/counter; cut -d. -f1 /proc/uptime")),
      );
      await installation.restart(signal);
      api = installation.api;
      const after = await Promise.all(
        all.map((name) => api.sh(name, "cat /tmp/counter; cut -d. -f1 /proc/uptime")),
      );
      for (let i = 0; i < all.length; i++) {
        expect(Number(after[i]!.split("\n")[0])).toBeGreaterThan(Number(before[i]!.split("\n")[0]));
        expect(Number(after[i]!.split("\n")[1])).toBeGreaterThanOrEqual(Number(before[i]!.split("\n")[1]));
      }
      expect((await installation.leftovers()).vmms).toBe(all.length);
    }
    await Promise.all(names.map((name) => api.destroy(name)));
  }, 120_000);

  test("host shutdown saves running sandboxes; after a reboot they come back with their memory", async () => {
    const before = Number(await counter());
    await installation.restart("SIGUSR2", { BHATTI_TEST_BOOT_ID: "another-boot" });
    api = installation.api;
    expect(await api.get("keep")).toMatchObject({ status: "stopped", reason: "shutdown", durable: true });
    expect(Number(await counter())).toBeGreaterThanOrEqual(before);
    await installation.restart();
    api = installation.api;
  }, 60_000);

  test("a power cut before memory was on disk: the sandbox boots from its disk and says what was lost", async () => {
    await api.stop("keep");
    await api.until("keep", (s) => s.durable);
    await installation.stop();
    const db = installation.database();
    db.run("UPDATE sandboxes SET durable = 0 WHERE name = 'keep'");
    db.close();
    await installation.start({ BHATTI_TEST_BOOT_ID: "after-the-cut" });
    api = installation.api;
    expect(await api.get("keep")).toMatchObject({ status: "stopped", reason: "memory_lost" });
    expect(await api.sh("keep", "cat /workspace/precious")).toBe("precious");
    expect(await api.get("keep")).toMatchObject({ status: "running", reason: "memory_lost" });
    const events = await api.ok<{ type: string }[]>("GET", "/events?type=sandbox.memory_lost");
    expect(events.length).toBeGreaterThan(0);
    await api.destroy("keep");
  }, 60_000);
});

describe("daemon killed while it boots a machine from its disk", () => {
  beforeAll(async () => {
    await api.create({ name: "disk" });
    await api.sh("disk", "echo precious >/workspace/precious; sync");
  }, 60_000);
  afterAll(() => api.destroy("disk"));

  /** Without memory: the next start boots. */
  const loseMemory = async () => {
    await api.call("POST", "/sandboxes/disk/exec", {
      cmd: ["sudo", "sh", "-c", "sync; echo o >/proc/sysrq-trigger"],
    });
    await api.until("disk", (s) => s.status === "stopped");
  };

  test.each(["boot:begin", "boot:network", "boot:booted", "boot:agent", "boot:end"])(
    "at %s: the disk is whole and boots",
    async (point) => {
      await loseMemory();
      installation.fault("kill", point);
      await quietly(api.call("POST", "/sandboxes/disk/start"));
      await recovered(["disk"]);
      expect(await api.sh("disk", "hostname; cat /workspace/precious")).toBe("disk\nprecious");
      expect((await installation.leftovers()).vmms).toBe(1);
    },
    90_000,
  );
});

describe("VMM killed", () => {
  test("at create:vmm-known, before the template's memory ran: the template is built anew and the create goes on", async () => {
    installation.fault("vmm", "create:vmm-known");
    expect(await api.create({ name: "v" })).toMatchObject({ name: "v", status: "running" });
    expect(installation.faultFired()).toBe(true);
    expect((await api.exec("v", ["hostname"])).stdout).toBe("v\n");
    expect((await installation.leftovers()).vmms).toBe(1);
    await api.destroy("v");
    expect(await installation.leftovers()).toMatchObject({ vmms: 0, dirs: [] });
  }, 90_000);

  // A shape that nobody had yet is cloned from its new template; one that is in use may take a waiting VM.
  test.each([
    ["create:running", 272],
    ["create:configured", 288],
    ["create:running", 256],
    ["create:configured", 256],
  ])(
    "at %s, %i MiB: the create fails and leaves nothing",
    async (point, memoryMb) => {
      installation.fault("vmm", point);
      const answer = await api.call("POST", "/sandboxes", { name: "v", memory_mb: memoryMb });
      expect(installation.faultFired()).toBe(true);
      expect(answer.status).toBeGreaterThanOrEqual(500);
      expect(await api.ok("GET", "/sandboxes")).toEqual([]);
      expect(await installation.leftovers()).toMatchObject({ vmms: 0, dirs: [] });
    },
    90_000,
  );

  test.each([
    "stop:frozen",
    "stop:paused",
    "stop:saved",
    "start:loaded",
    "start:consumed",
    "start:resumed",
    "checkpoint:frozen",
    "checkpoint:saved",
  ])(
    "at %s: the disk is whole and the next request is served",
    async (point) => {
      await api.create({ name: "v" });
      await api.sh("v", "echo precious >/workspace/precious; sync");
      if (point.startsWith("start")) await api.stop("v");
      installation.fault("vmm", point);
      if (point.startsWith("stop")) await quietly(api.call("POST", "/sandboxes/v/stop"));
      else if (point.startsWith("start")) await quietly(api.call("POST", "/sandboxes/v/start"));
      else await quietly(api.call("POST", "/sandboxes/v/checkpoint", { name: "x" }));
      expect(installation.faultFired()).toBe(true);
      await api.until("v", (s) => s.status === "stopped" || s.status === "running");
      await Bun.sleep(200);
      expect((await api.exec("v", ["cat", "/workspace/precious"])).stdout).toBe("precious\n");
      expect((await installation.leftovers()).vmms).toBe(1);
      await api.destroy("v");
      expect(await api.ok("GET", "/snapshots")).toEqual([]);
    },
    120_000,
  );
});

describe("daemon killed while memory moves out of a full reserve", () => {
  test.each(["memory-move:copied", "memory-move:there"])(
    "at %s: no half stays, the snapshot is whole",
    async (point) => {
      const own = await Installation.create({ config: { memory_pool_mb: 1024 } });
      try {
        await own.api.create({ name: "src" });
        await own.api.sh("src", "echo precious >/tmp/precious");
        const { id } = await own.api.ok("POST", "/sandboxes/src/checkpoint", { name: "s" });
        own.fault("kill", point);
        // Snapshots' memory is what gives way when nothing sleeps.
        for (let i = 0; i < 5 && !own.faultFired(); i++)
          await quietly(own.api.call("POST", "/sandboxes", { name: `more-${i}`, memory_mb: 256 }));
        await own.ended();
        expect(own.faultFired()).toBe(true);
        await own.start();
        const here = readdirSync(`${own.dataDir}/reserved/snapshots/${id}`);
        const outside = readdirSync(`${own.dataDir}/snapshots/${id}`).sort();
        expect([here, outside]).toEqual([["mem"], ["disk", "state"]]);
        for (const { name } of await own.api.ok<{ name: string }[]>("GET", "/sandboxes"))
          if (name !== "src") await own.api.destroy(name);
        const copy = await own.api.ok("POST", "/snapshots/s/resume", { name: "copy" });
        expect(await own.api.sh(copy.id, "cat /tmp/precious")).toBe("precious");
      } finally {
        await own.remove();
      }
    },
    180_000,
  );
});

test("an image that is damaged is refused with the remedy", async () => {
  const { truncateSync, statSync } = await import("node:fs");
  const path = `${installation.dataDir}/images/minimal.ext4`;
  const { size } = statSync(path);
  truncateSync(path, 1000);
  const refused = await api.call("POST", "/sandboxes", { name: "bad" });
  expect(refused.status).toBe(503);
  expect(refused.body.error).toContain("damaged");
  truncateSync(path, size);
  expect((await api.call("POST", "/sandboxes", { name: "bad" })).status).toBe(503);
  expect(await installation.leftovers()).toMatchObject({ vmms: 0, dirs: [] });
}, 60_000);
