/** An attacker who runs code in a VMM's process, against a running daemon: he has what the VMM has, and wants root to act for him. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { loharPath } from "../../src/daemon/programs.ts";
import { run } from "../../src/lib/run.ts";
import type { Api } from "../e2e/api.ts";
import { Installation } from "../e2e/harness.ts";
import { fakeVmm, greets, qmpServer } from "./fake-vmm.ts";

let installation: Installation;
let api: Api;
beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

interface Place {
  engine_id: string;
  pid: number;
  uid: number;
}

const placeOf = (name: string): Place =>
  installation.query<Place>(`SELECT engine_id, pid, uid FROM sandboxes WHERE name = '${name}'`)[0]!;

const dirOf = (name: string) => `${installation.dataDir}/sandboxes/${placeOf(name).engine_id}`;

/** Runs a program with the VMM's user, root and namespaces: what its code could do, seccomp and limits apart. */
function inVmm(name: string, command: string[]) {
  const { pid, uid } = placeOf(name);
  const place = ["-t", `${pid}`, "-m", "-p", "-i", "-r", "-w"];
  const enter = ["nsenter", ...place, "-S", `${uid}`, "-G", `${uid}`, "--"];
  return Bun.spawn([...enter, ...command], { stdout: "pipe", stderr: "ignore", cwd: "/" });
}

test("it can write its memory, its disk and its devices, and nothing else: there is no name that root could follow", async () => {
  await api.create({ name: "names" });
  const found = inVmm("names", ["/usr/bin/find", "/", "-writable", "!", "-type", "l"]);
  const writable = (await new Response(found.stdout).text()).split("\n").filter(Boolean).sort();
  const devices = ["null", "random", "urandom", "zero", "net/tun", "kvm"].map((name) => `/dev/${name}`);
  expect(writable.filter((path) => !devices.includes(path))).toEqual(["/drive0", "/mem"]);
  await api.destroy("names");
}, 120_000);

test("symlinks planted wherever it can, while root saves, adopts and destroys, change no file of the host", async () => {
  const victim = `${installation.dataDir}/victim`;
  writeFileSync(victim, "root's");
  chmodSync(victim, 0o644);
  const plant = `my $n = 0; my $end = time + 60;
    while (time < $end) { for my $d ("", "/out", "/dev", "/usr") { for my $f ("out.sock", "sock", "qmp.sock", "in.sock") {
      unlink "$d/$f"; $n++ if symlink "${victim}", "$d/$f"; } } syswrite STDOUT, "$n\\n" if $n; }`;
  await api.create({ name: "planter" });
  for (let round = 0; round < 4; round++) {
    const attacker = inVmm("planter", ["/usr/bin/perl", "-e", plant]);
    await Bun.sleep(200);
    await api.call("POST", "/sandboxes/planter/stop");
    attacker.kill("SIGKILL");
    // Nothing of the attacker's user outlives the VM.
    await api.start("planter");
    const { uid, mode } = statSync(victim);
    expect({ uid, mode: mode & 0o777 }).toEqual({ uid: 0, mode: 0o644 });
    expect(await new Response(attacker.stdout).text()).toBe("");
  }
  expect(readFileSync(victim, "utf8")).toBe("root's");
  await api.destroy("planter");
}, 240_000);

test("destroy ends every process of the VMM's user before the uid is used again", async () => {
  await api.create({ name: "lingers" });
  const { uid } = placeOf("lingers");
  const left = inVmm("lingers", ["/usr/bin/setsid", "/usr/bin/perl", "-e", "sleep 300"]);
  const processes = async () =>
    (await run(["ps", "-eo", "uid,args"])).split("\n").filter((line) => line.trim().startsWith(`${uid} `));
  for (let i = 0; i < 100 && !(await processes()).join().includes("sleep 300"); i++) await Bun.sleep(100);
  expect((await processes()).join()).toContain("sleep 300");
  await api.destroy("lingers");
  await left.exited;
  expect(await processes()).toEqual([]);
}, 120_000);

test("a memory file that it resized is not copied into a snapshot; the sandbox goes on", async () => {
  await api.create({ name: "resizes" });
  const snapshot = (name: string) => api.call("POST", "/sandboxes/resizes/checkpoint", { name });
  expect((await snapshot("before")).status).toBeLessThan(300);
  expect(await inVmm("resizes", ["/usr/bin/truncate", "-s", "+1M", "/mem"]).exited).toBe(0);
  expect((await snapshot("after")).status).toBeGreaterThanOrEqual(400);
  expect(await api.sh("resizes", "echo on")).toBe("on");
  await inVmm("resizes", ["/usr/bin/truncate", "-s", "256M", "/mem"]).exited;
  expect((await snapshot("again")).status).toBeLessThan(300);
  for (const name of ["before", "again"]) await api.call("DELETE", `/snapshots/${name}`);
  await api.destroy("resizes");
}, 240_000);

/** Puts a program in place of the sandbox's VMM while no daemon is there. */
async function takeOver(name: string, script: string) {
  await installation.stop("SIGKILL");
  const { pid, uid } = placeOf(name);
  process.kill(pid, "SIGKILL");
  await Bun.sleep(300);
  const fake = await fakeVmm(await loharPath(installation.dataDir), script, { dir: dirOf(name), uid });
  const db = installation.database();
  db.query("UPDATE sandboxes SET pid = ?, pid_start = ? WHERE name = ?").run(
    fake.process.pid,
    fake.process.startTime,
    name,
  );
  db.close();
  return fake;
}

for (const [kind, talk] of [
  ["talks nonsense", `${greets} print $c "{]\\n"; sleep 600;`],
  ["hangs", "sleep 600;"],
] as const) {
  test(`a VMM that ${kind} does not keep the daemon from starting, nor the others from being served`, async () => {
    await api.create({ name: "good" });
    await api.create({ name: "bad" });
    await api.sh("good", "echo kept >/dev/shm/in-memory");
    await using fake = await takeOver("bad", qmpServer(talk));
    await installation.start();
    api = installation.api;
    expect(await api.sh("good", "cat /dev/shm/in-memory")).toBe("kept");
    if (kind === "hangs") {
      // Not killed for being slow; its owner may give it up at any time.
      expect(statSync(`/proc/${fake.process.pid}`).isDirectory()).toBe(true);
      expect((await api.get("bad")).status).toBe("running");
    } else {
      expect(await api.sh("bad", "echo again")).toBe("again");
      const { body } = await api.call("GET", "/events?type=sandbox.memory_lost");
      expect(JSON.stringify(body)).toContain("not QMP");
    }
    await api.destroy("bad");
    await api.destroy("good");
    expect((await installation.leftovers()).vmms).toBe(0);
  }, 240_000);
}
