/** A sick guest is never a lost disk: each answers in time with the reason, and each disk comes back by `restart`. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import type { Api, Json } from "./api.ts";
import { Installation } from "./harness.ts";

let installation: Installation;
let api: Api;

beforeAll(async () => {
  installation = await Installation.create({ config: { probe_every_s: 2 } });
  api = installation.api;
  await api.create({ name: "warm-up" }); // builds the template
  await api.destroy("warm-up");
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

/** A sandbox with something on its disk that must not be lost. */
async function patient(name: string, more: Record<string, unknown> = {}): Promise<void> {
  await api.create({ name, ...more });
  await api.sh(name, "echo precious >/workspace/precious; sync");
}

async function isWhole(name: string): Promise<void> {
  expect(await api.sh(name, "cat /workspace/precious")).toBe("precious");
  expect((await api.get(name)).unresponsive).toBeUndefined();
}

const root = (name: string, line: string, extra: Record<string, unknown> = {}) =>
  api.call("POST", `/sandboxes/${name}/exec`, { cmd: ["sh", "-c", line], user: "root", ...extra });

/** For what ends the machine, or its network, under the request that asks for it. */
const later = (name: string, line: string) => root(name, `sleep 0.3; ${line}`, { detach: true });

async function within<T>(seconds: number, work: Promise<T>): Promise<T> {
  const began = performance.now();
  const result = await work;
  expect((performance.now() - began) / 1000).toBeLessThan(seconds);
  return result;
}

const vmmPid = (name: string) => installation.vmmPid(name);

const eventsOf = async (type: string, name: string): Promise<Json[]> =>
  (await api.ok<Json[]>("GET", `/events?type=${type}`)).filter((e) => e.meta.name === name);

async function cli(args: string[]) {
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/../../src/main.ts`, ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: {
      PATH: process.env.PATH!,
      HOME: "/nonexistent",
      BHATTI_URL: installation.url,
      BHATTI_TOKEN: installation.key(),
    },
  });
  const [text, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { text, err, code };
}

describe("a guest that does not answer", () => {
  test.concurrent("silent: the command's time-out is kept by the host, what is wrong is told at once from then on", async () => {
    await patient("mute");
    const cut = await within(25, root("mute", "ip link set eth0 down; sleep 100", { timeout_sec: 2 }));
    expect(cut).toMatchObject({ status: 504, body: { code: "guest_unresponsive" } });
    const seen = await api.until("mute", (s) => s.unresponsive, 30_000);
    expect(seen.unresponsive).toMatchObject({ why: "its agent does not answer" });
    expect(seen.unresponsive.remedy).toContain("bhatti restart mute");
    const next = await within(8, root("mute", "true"));
    expect(next).toMatchObject({ status: 504, body: { code: "guest_unresponsive" } });
    expect(next.body.remedy).toContain("bhatti restart mute");
    const shown = await cli(["list"]);
    expect(shown.text).toMatch(/^mute +unresponsive +hot/m);
    expect((await cli(["inspect", "mute"])).text).toContain("its agent does not answer, since ");
    const exec = await within(10, cli(["exec", "mute", "--", "true"]));
    expect(exec).toMatchObject({ code: 125, text: "" });
    expect(exec.err).toContain("bhatti restart mute");
    expect(await within(60, cli(["restart", "mute"]))).toMatchObject({ code: 0 });
    await isWhole("mute");
    expect(await api.get("mute")).toMatchObject({ status: "running", reason: "restart" });
    expect((await eventsOf("sandbox.unresponsive", "mute")).length).toBe(1);
    await api.destroy("mute");
  }, 180_000);

  test.concurrent("silent, then stopped: the same broken memory is not restored for ever", async () => {
    await patient("asleep");
    await later("asleep", "ip link set eth0 down");
    await api.until("asleep", (s) => s.unresponsive, 60_000);
    expect(await within(20, api.stop("asleep"))).toMatchObject({ thermal: "cold" });
    const refused = await within(45, api.call("POST", "/sandboxes/asleep/start", {}));
    expect(refused).toMatchObject({ status: 504, body: { code: "guest_unresponsive" } });
    await within(60, api.start("asleep", { force: true }));
    await isWhole("asleep");
    await api.destroy("asleep");
  }, 180_000);

  test.concurrent("frozen: a kernel that runs nothing else is restarted by itself where that was asked for", async () => {
    await patient("frozen", { on_unresponsive: "restart" });
    // The agent itself stands still; the guest's network still answers the host's TCP.
    await later(
      "frozen",
      "cd /sys/fs/cgroup && mkdir ice && echo 1 >ice/cgroup.procs && echo 1 >ice/cgroup.freeze",
    );
    await api.until("frozen", (s) => s.reason === "unresponsive" && s.status === "running", 90_000);
    await isWhole("frozen");
    const view = await api.get("frozen");
    expect(view).toMatchObject({ on_unresponsive: "restart", last_end: { reason: "unresponsive" } });
    expect((await eventsOf("sandbox.restarted", "frozen")).length).toBe(1);
    await api.destroy("frozen");
  }, 180_000);

  test.concurrent("one that is only paused, or busy, or quiet for long, is left alone", async () => {
    await patient("fine", { on_unresponsive: "restart" });
    expect(await api.exec("fine", ["sh", "-c", "sleep 33; echo done"])).toMatchObject({ stdout: "done\n" });
    expect((await api.get("fine")).unresponsive).toBeUndefined();
    expect(await eventsOf("sandbox.unresponsive", "fine")).toEqual([]);
    await api.destroy("fine");
  }, 90_000);
});

describe("a VMM that does not answer", () => {
  test.concurrent("every call has a deadline and none of them ends as a success", async () => {
    await patient("stuck");
    process.kill(vmmPid("stuck"), "SIGSTOP");
    const exec = await within(40, cli(["exec", "stuck", "--timeout", "2", "--", "true"]));
    expect(exec).toMatchObject({ code: 125, text: "" });
    const stop = await within(12, api.call("POST", "/sandboxes/stuck/stop", {}));
    expect(stop).toMatchObject({ status: 504, body: { code: "guest_unresponsive" } });
    expect(stop.body.error).toMatch(/its (VMM|agent) does not answer/);
    const snapshot = await within(25, api.call("POST", "/sandboxes/stuck/checkpoint", { name: "x" }));
    expect(snapshot.status).toBe(504);
    expect(await api.ok("GET", "/snapshots")).toEqual([]);
    expect((await cli(["stop", "stuck"])).code).toBe(1);
    await within(60, api.ok("POST", "/sandboxes/stuck/restart", {}));
    await isWhole("stuck");
    process.kill(vmmPid("stuck"), "SIGSTOP");
    await within(10, api.ok("DELETE", "/sandboxes/stuck"));
  }, 240_000);
});

describe("the end of a machine has a reason", () => {
  test.concurrent("panic", async () => {
    await patient("panics");
    await later("panics", "echo c >/proc/sysrq-trigger");
    const view = await api.until("panics", (s) => s.status === "stopped", 30_000);
    expect(view).toMatchObject({ reason: "panic", last_end: { reason: "panic" } });
    expect(view.last_end.why).toContain("sysrq triggered crash");
    expect((await api.call("GET", "/sandboxes/panics/console")).body).toContain("Kernel panic - not syncing");
    expect((await eventsOf("sandbox.panic", "panics"))[0].meta.why).toContain("sysrq");
    await isWhole("panics");
    expect(await api.get("panics")).toMatchObject({ last_end: { reason: "panic" } });
    const before = await cli(["console", "panics", "--previous"]);
    expect(before.text).toContain("Kernel panic - not syncing: sysrq triggered crash");
    expect((await cli(["console", "panics"])).text).not.toContain("panic");
    await api.destroy("panics");
  }, 120_000);

  test.concurrent("out of memory: a process inside, the kernel inside, the VMM outside", async () => {
    await patient("hungry");
    // A small group fills up sooner than the whole machine; its kernel does and says the same.
    const hog =
      "cd /sys/fs/cgroup; echo +memory >cgroup.subtree_control; mkdir -p small; echo 16M >small/memory.max; " +
      "echo $$ >small/cgroup.procs; exec tail /dev/zero";
    expect(await root("hungry", hog)).toMatchObject({ body: { exit_code: 137 } });
    for (let i = 0; i < 100 && (await eventsOf("sandbox.guest_oom", "hungry")).length === 0; i++)
      await Bun.sleep(100);
    expect((await eventsOf("sandbox.guest_oom", "hungry"))[0].meta).toMatchObject({ process: "tail" });
    expect(await api.get("hungry")).toMatchObject({ status: "running" });
    await later("hungry", `echo 2 >/proc/sys/vm/panic_on_oom; ${hog}`);
    const inside = await api.until("hungry", (s) => s.status === "stopped", 60_000);
    expect(inside).toMatchObject({ reason: "oom" });
    expect(inside.last_end.why).toContain("its kernel ran out of memory");
    await isWhole("hungry");
    // What the host's kernel writes into its log when it does this.
    const pid = vmmPid("hungry");
    const log = openSync("/dev/kmsg", "w");
    writeSync(log, `<3>Out of memory: Killed process ${pid} (qemu-system-x86) total-vm:1kB\n`);
    closeSync(log);
    process.kill(pid, "SIGKILL");
    const outside = await api.until("hungry", (s) => s.status === "stopped", 30_000);
    expect(outside).toMatchObject({ reason: "oom" });
    expect(outside.last_end.why).toContain("the host");
    await isWhole("hungry");
    process.kill(vmmPid("hungry"), "SIGKILL");
    expect(await api.until("hungry", (s) => s.status === "stopped")).toMatchObject({ reason: "crashed" });
    await isWhole("hungry");
    await api.destroy("hungry");
  }, 180_000);

  test("reboot comes back by itself, power-off stays off, also while no daemon is there", async () => {
    await patient("again");
    await root("again", "reboot");
    const back = await api.until("again", (s) => s.last_end && s.status === "running", 60_000);
    expect(back).toMatchObject({ reason: "reboot", last_end: { reason: "reboot" } });
    await isWhole("again");
    await root("again", "poweroff");
    const off = await api.until("again", (s) => s.status === "stopped", 30_000);
    expect(off).toMatchObject({ reason: "poweroff", last_end: { reason: "poweroff" } });
    await Bun.sleep(3000);
    expect(await api.get("again")).toMatchObject({ status: "stopped", reason: "poweroff" });
    await isWhole("again");
    await root("again", "sleep 2; echo c >/proc/sysrq-trigger", { detach: true });
    await installation.stop();
    await Bun.sleep(6000);
    await installation.start();
    api = installation.api;
    const gone = await api.until("again", (s) => s.status === "stopped", 30_000);
    expect(gone).toMatchObject({ reason: "panic" });
    await isWhole("again");
    await api.destroy("again");
  }, 180_000);
});

test.concurrent("a disk that does not boot: guest_failed with the console, which can be read at any time", async () => {
  await patient("blank");
  await api.stop("blank");
  const { engine_id } = await api.get("blank");
  const dir = `${installation.dataDir}/sandboxes/${engine_id}`;
  const disk = openSync(`${dir}/disk.0`, "r+");
  const start = Buffer.alloc(4 << 20);
  readSync(disk, start, 0, start.length, 0);
  writeSync(disk, Buffer.alloc(start.length), 0, start.length, 0);
  const failed = await within(60, api.call("POST", "/sandboxes/blank/restart", { force: true }));
  expect(failed).toMatchObject({ status: 500, body: { code: "guest_failed" } });
  expect(failed.body.error).toContain("mount /dev/vda");
  expect(failed.body.remedy).toContain("bhatti console blank");
  expect(await api.get("blank")).toMatchObject({ status: "stopped", reason: "failed" });
  expect((await eventsOf("sandbox.failed", "blank")).length).toBe(1);
  expect((await api.call("GET", "/sandboxes/blank/console")).body).toContain("lohar:");
  expect((await cli(["console", "blank"])).text).toContain("lohar:");
  expect((await cli(["exec", "blank", "--", "true"])).code).toBe(125);
  writeSync(disk, start, 0, start.length, 0);
  closeSync(disk);
  await isWhole("blank");
  await api.destroy("blank");
}, 180_000);

test.concurrent("an image that does not boot: the create fails with what its console said, and leaves nothing", async () => {
  const image = Buffer.alloc(64 << 20);
  image.writeUInt16LE(0xef53, 1080); // all that it has of a file system
  await Bun.write(`${installation.dataDir}/images/hollow.ext4`, image);
  const manifest = { name: "hollow", distro: "debian", size: image.length, sha256: "x", built_at: "" };
  await Bun.write(`${installation.dataDir}/images/hollow.json`, JSON.stringify(manifest));
  const body = { name: "hollow", image: "hollow", memory_mb: 256 };
  const failed = await within(120, api.call("POST", "/sandboxes", body));
  expect(failed).toMatchObject({ status: 500, body: { code: "guest_failed" } });
  expect(failed.body.error).toContain("mount /dev/vda");
  expect((await api.call("GET", "/sandboxes/hollow")).status).toBe(404);
}, 180_000);

test.concurrent("a root that became read-only: stop and wake work, and a restart makes it writable again", async () => {
  await patient("ro");
  await root("ro", "echo u >/proc/sysrq-trigger; sleep 0.5");
  expect((await root("ro", "touch /x")).body.stderr).toContain("Read-only");
  await api.stop("ro");
  await isWhole("ro");
  await api.ok("POST", "/sandboxes/ro/restart", {});
  expect((await root("ro", "touch /x && hostname")).body.stdout).toBe("ro\n");
  await isWhole("ro");
  await api.destroy("ro");
}, 120_000);

test.concurrent("pipes where the agent reads files: the machine boots, wakes and serves all the same", async () => {
  await patient("pipes");
  const made = await root(
    "pipes",
    "cd /etc && mkfifo sysctl.d/00.conf modules-load.d/00.conf sysctl.conf /home/pipe; rm -f hosts group; mkfifo hosts group; ln -s /dev/zero sysctl.d/01.conf; sync",
  );
  expect(made.body).toMatchObject({ exit_code: 0, stderr: "" });
  await isWhole("pipes");
  await api.stop("pipes");
  await isWhole("pipes");
  await within(60, api.ok("POST", "/sandboxes/pipes/restart", { force: true }));
  await isWhole("pipes");
  expect(await api.sh("pipes", "grep -c pipes /etc/hosts")).toBe("1");
  await api.destroy("pipes");
}, 180_000);

test.concurrent("init that fails leaves a trace: status, event, log, the file of its output", async () => {
  const made = await api.create({ name: "init", init: "echo so far; exit 4" });
  expect(made.init).toBeUndefined();
  const view = await api.until("init", (s) => s.init?.status === "exited", 20_000);
  expect(view.init).toMatchObject({ exit_code: 4, log: "/var/log/bhatti-init.log" });
  expect(await api.sh("init", `cat ${view.init.log}`)).toBe("so far");
  expect((await eventsOf("sandbox.init_failed", "init"))[0].meta).toMatchObject({ exit_code: 4 });
  expect((await cli(["inspect", "init"])).text).toMatch(/Init: +exit 4, output in .var.log/);
  expect(installation.log()).toContain('"init ended"');
  await api.create({ name: "good", init: "true" });
  await api.until("good", (s) => s.init?.status === "exited" && s.init.exit_code === 0, 20_000);
  expect((await eventsOf("sandbox.init_finished", "good")).length).toBe(1);
  expect((await api.create({ name: "none" })).init).toBeUndefined();
  await Promise.all(["init", "good", "none"].map((name) => api.destroy(name)));
}, 120_000);

test("a VMM that is stopped while the daemon starts: told at once, and force does not wait for it", async () => {
  await patient("still");
  const pid = vmmPid("still");
  process.kill(pid, "SIGSTOP");
  await installation.restart();
  api = installation.api;
  const seen = await api.until("still", (s) => s.unresponsive, 60_000);
  expect(seen).toMatchObject({ status: "running", unresponsive: { why: "its VMM does not answer" } });
  expect(await within(8, root("still", "true"))).toMatchObject({ body: { code: "guest_unresponsive" } });
  await within(90, api.ok("POST", "/sandboxes/still/restart", { force: true }));
  await isWhole("still");
  await api.destroy("still");
}, 240_000);

describe("restart", () => {
  test.concurrent("shuts down first: what was written is there, from hot, warm and cold; force does not ask", async () => {
    await patient("off-and-on");
    for (const state of ["hot", "warm", "cold"]) {
      await api.sh("off-and-on", `echo ${state} >/workspace/unsynced; echo x >/dev/shm/gone`);
      if (state === "warm") {
        await api.ok("PATCH", "/sandboxes/off-and-on", { warm_after_s: 1 });
        await api.until("off-and-on", (s) => s.thermal === "warm");
        await api.ok("PATCH", "/sandboxes/off-and-on", { warm_after_s: 0 });
      }
      if (state === "cold") await api.stop("off-and-on");
      const view = await within(60, api.ok("POST", "/sandboxes/off-and-on/restart", {}));
      expect(view).toMatchObject({ status: "running", thermal: "hot", reason: "restart" });
      expect(await api.sh("off-and-on", "cat /workspace/unsynced; ls /dev/shm")).toBe(state);
    }
    const forced = await api.ok("POST", "/sandboxes/off-and-on/restart", { force: true });
    expect(forced.last_end.why).toContain("switched off");
    await isWhole("off-and-on");
    expect((await api.call("POST", "/sandboxes/off-and-on/restart", "{")).status).toBe(400);
    expect((await installation.user("other").call("POST", "/sandboxes/off-and-on/restart", {})).status).toBe(
      404,
    );
    expect((await installation.user("other").call("GET", "/sandboxes/off-and-on/console")).status).toBe(404);
    await api.destroy("off-and-on");
  }, 240_000);

  test("the daemon killed at each of its steps loses nothing, and finishes it", async () => {
    await patient("r");
    for (const step of [
      "restart:begin",
      "restart:shut-down",
      "restart:off",
      "restart:killed",
      "restart:end",
    ]) {
      installation.fault("kill", step);
      await api.call("POST", "/sandboxes/r/restart", {}).catch(() => null);
      await installation.ended();
      expect(installation.faultFired()).toBe(true);
      await installation.start();
      api = installation.api;
      // Nobody asks for it, and it comes.
      const up = await api.until("r", (s) => s.status === "running" && s.reason === "restart", 90_000);
      expect(up.last_end.reason).toBe("restart");
      await isWhole("r");
      expect((await installation.leftovers()).vmms).toBe(1);
    }
    await api.destroy("r");
  }, 240_000);
});
