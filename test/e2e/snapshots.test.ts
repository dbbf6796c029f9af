/** Named snapshots, forks, rollback, export; and that no two clones are the same machine. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import type { Api, Json } from "./api.ts";
import { Installation } from "./harness.ts";
import { holders, holds } from "./hunt.ts";
import { keepingTimes } from "./times.ts";

let installation: Installation;
let api: Api;

const COUNTER =
  "nohup sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/c.new; mv /tmp/c.new /tmp/counter; sleep 0.1; done' >/dev/null 2>&1 & sleep 0.3";

beforeAll(async () => {
  installation = await Installation.create();
  api = installation.api;
  await api.create({ name: "src", env: { MY_SECRET: "s3cr3t-canary-0001" } });
  await api.sh("src", `echo v1 >/workspace/state; ${COUNTER}`);
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

const snapshot = (sandbox: string, name: string) =>
  api.ok("POST", `/sandboxes/${sandbox}/checkpoint`, { name });
const resume = (name: string, body: Record<string, unknown> = {}) =>
  api.ok("POST", `/snapshots/${name}/resume`, body);
const destroyAll = (list: { id: string }[]) => Promise.all(list.map((s) => api.destroy(s.id)));

describe("named snapshots", () => {
  test("of a running, a warm and a cold sandbox; the source goes on", async () => {
    const before = Number(await api.sh("src", "cat /tmp/counter"));
    const made = await snapshot("src", "s-hot");
    expect(made).toMatchObject({ name: "s-hot", kind: "memory", memory_mb: 256 });
    expect(made.pause_ms).toBeGreaterThan(0);
    expect(Number(await api.sh("src", "sleep 0.2; cat /tmp/counter"))).toBeGreaterThan(before);
    await api.ok("PATCH", "/sandboxes/src", { warm_after_s: 1 });
    await api.exec("src", ["pkill", "-f", "counter"]);
    await api.until("src", (s) => s.thermal === "warm");
    await snapshot("src", "s-warm");
    expect(await api.get("src")).toMatchObject({ thermal: "warm" });
    await api.ok("PATCH", "/sandboxes/src", { warm_after_s: 0 });
    await api.stop("src");
    await snapshot("src", "s-cold");
    expect(await api.get("src")).toMatchObject({ thermal: "cold" });
    await api.sh("src", COUNTER);
    expect((await api.ok<Json[]>("GET", "/snapshots")).map((s) => s.name)).toEqual([
      "s-cold",
      "s-warm",
      "s-hot",
    ]);
    for (const name of ["s-hot", "s-warm", "s-cold"]) {
      const copy = await resume(name);
      expect(await api.sh(copy.id, "cat /workspace/state; echo $MY_SECRET")).toBe("v1\ns3cr3t-canary-0001");
      await api.destroy(copy.id);
    }
  }, 120_000);

  test("resumed while the source lives and after it is gone; by several at the same time; chains do not matter", async () => {
    const copies = await Promise.all([1, 2, 3].map((n) => resume("s-hot", { name: `copy-${n}` })));
    expect(await Promise.all(copies.map((c) => api.sh(c.id, "hostname")))).toEqual([
      "copy-1",
      "copy-2",
      "copy-3",
    ]);
    const counters = await Promise.all(copies.map((c) => api.sh(c.id, "cat /tmp/counter")));
    expect(counters.every((n) => Number(n) > 0)).toBe(true);
    await api.sh("copy-1", "echo v2 >/workspace/state");
    await snapshot("copy-1", "second");
    const child = await resume("second", { name: "child" });
    await snapshot("child", "third");
    await api.ok("DELETE", "/snapshots/second");
    await destroyAll([...copies, child]);
    const grandchild = await resume("third", { name: "grandchild" });
    expect(await api.sh("grandchild", "cat /workspace/state")).toBe("v2");
    await api.destroy(grandchild.id);
    await api.ok("DELETE", "/snapshots/third");
  }, 120_000);

  test("names, conflicts, caps, other users", async () => {
    expect((await api.call("POST", "/sandboxes/src/checkpoint", { name: "s-hot" })).status).toBe(409);
    expect((await api.call("POST", "/sandboxes/src/checkpoint", { name: "a b" })).body.error).toStartWith(
      'invalid snapshot name "a b": 1 to 63 letters',
    );
    expect((await api.call("POST", "/sandboxes/nope/checkpoint", { name: "x" })).status).toBe(404);
    expect((await api.call("POST", "/snapshots/nope/resume", {})).status).toBe(404);
    expect((await api.call("POST", "/snapshots/s-hot/resume")).body.error).toBe("invalid json: EOF");
    expect((await api.call("POST", "/snapshots/s-hot/resume", { name: "src" })).status).toBe(409);
    expect((await api.call("DELETE", "/snapshots/s-hot/anything")).status).toBe(404);
    const other = installation.user("other");
    expect((await other.call("POST", "/snapshots/s-hot/resume", {})).status).toBe(404);
    expect(await other.ok("GET", "/snapshots")).toEqual([]);
    const poor = installation.user("poor", { maxSnapshots: 1 });
    const { id } = await poor.create({ name: "p" });
    await poor.ok("POST", "/sandboxes/p/checkpoint", { name: "one" });
    expect((await poor.call("POST", "/sandboxes/p/checkpoint", { name: "two" })).status).toBe(429);
    await poor.destroy(id);
    await poor.ok("DELETE", "/snapshots/one");
  }, 60_000);

  test("sizes are told truthfully: shared and own", async () => {
    const view = await api.ok("GET", "/snapshots/s-hot");
    expect(view.allocated_bytes).toBeGreaterThan(50_000_000);
    expect(view.exclusive_bytes).toBeLessThan(view.allocated_bytes);
  });

  test.each(["mem", "disk"])(
    "a %s that was written to or cut is never resumed; the source is not harmed",
    async (file) => {
      await snapshot("src", "hurt");
      const { id } = await api.ok("GET", "/snapshots/hurt");
      const path = `${installation.dataDir}/${file === "mem" ? "reserved/" : ""}snapshots/${id}/${file}`;
      // Size and time are looked at; contents only on request, at export and at import.
      const { atime, mtime } = statSync(path);
      utimesSync(path, atime, new Date(mtime.getTime() + 1));
      const refused = await api.call("POST", "/snapshots/hurt/resume", {});
      expect(refused.status).toBe(500);
      expect(refused.body.error).toContain("damaged");
      utimesSync(path, atime, mtime);
      truncateSync(path, 100);
      expect((await api.call("POST", "/snapshots/hurt/resume", {})).body.error).toContain("truncated");
      await api.ok("DELETE", "/snapshots/hurt");
      expect((await api.exec("src", ["echo", "fine"])).stdout).toBe("fine\n");
    },
    60_000,
  );

  test("one bit flipped in the middle of the state, size and time as before: never resumed", async () => {
    await snapshot("src", "hurt");
    const { id } = await api.ok("GET", "/snapshots/hurt");
    const path = `${installation.dataDir}/snapshots/${id}/state`;
    const { size } = statSync(path);
    const bytes = readFileSync(path);
    bytes[Math.floor(size / 2)]! ^= 1;
    chmodSync(path, 0o600);
    await keepingTimes(path, () => writeFileSync(path, bytes));
    const refused = await api.call("POST", "/snapshots/hurt/resume", {});
    expect(refused.status).toBe(500);
    expect(refused.body.error).toContain("state was changed");
    await api.ok("DELETE", "/snapshots/hurt");
  }, 60_000);

  test("one bit flipped in memory or disk, size and time as before: told by verify, refused by export", async () => {
    await snapshot("src", "hurt");
    const whole = await api.ok("POST", "/snapshots/hurt/verify");
    expect([whole.ok, whole.files.length]).toEqual([true, 3]);
    for (const file of ["mem", "disk"]) {
      const path = `${installation.dataDir}/${file === "mem" ? "reserved/" : ""}snapshots/${whole.id}/${file}`;
      const flip = () => {
        const { size } = statSync(path);
        chmodSync(path, 0o600);
        const fd = openSync(path, "r+");
        const byte = Buffer.alloc(1);
        readSync(fd, byte, 0, 1, Math.floor(size / 2));
        byte[0]! ^= 1;
        writeSync(fd, byte, 0, 1, Math.floor(size / 2));
        closeSync(fd);
      };
      await keepingTimes(path, flip);
      const told = await api.ok("POST", "/snapshots/hurt/verify");
      expect(told).toMatchObject({ ok: false, compared: true });
      expect(told.files.filter((f: Json) => f.damage)).toMatchObject([{ name: file, damage: "was changed" }]);
      expect((await api.call("GET", "/snapshots/hurt/export")).body.error).toContain(`${file} was changed`);
      await keepingTimes(path, flip);
      expect(await api.ok("POST", "/snapshots/hurt/verify")).toMatchObject({ ok: true, compared: true });
    }
    await api.ok("DELETE", "/snapshots/hurt");
  }, 120_000);

  test("delete and resume at the same time: one of them wins, nothing half remains", async () => {
    for (let i = 0; i < 3; i++) {
      await snapshot("src", "contested");
      const [deleted, resumed] = await Promise.all([
        api.call("DELETE", "/snapshots/contested"),
        api.call("POST", "/snapshots/contested/resume", { name: "contender" }),
      ]);
      // Who reads keeps it from being deleted; who deletes first leaves nothing to read. Never both, never neither.
      const outcome = `delete ${deleted.status}, resume ${resumed.status}`;
      expect(["delete 200, resume 404", "delete 409, resume 201"]).toContain(outcome);
      if (resumed.status === 201) {
        expect((await api.exec("contender", ["hostname"])).stdout).toBe("contender\n");
        await api.destroy("contender");
        await api.ok("DELETE", "/snapshots/contested");
      }
      expect((await api.call("GET", "/snapshots/contested")).status).toBe(404);
    }
    expect((await installation.leftovers()).vmms).toBe(1);
  }, 60_000);

  test("snapshot of a sandbox that is being stopped", async () => {
    const [stopped, taken] = await Promise.all([
      api.call("POST", "/sandboxes/src/stop"),
      api.call("POST", "/sandboxes/src/checkpoint", { name: "racing" }),
    ]);
    expect(stopped.status).toBe(200);
    expect(taken.status).toBe(201);
    const copy = await resume("racing");
    expect(await api.sh(copy.id, "cat /workspace/state")).toBe("v1");
    await api.destroy(copy.id);
    await api.ok("DELETE", "/snapshots/racing");
    await api.start("src");
  }, 60_000);
});

describe("fork and rollback", () => {
  test("ten forks each answer, with names of their own", async () => {
    const { sandboxes, pause_ms } = await api.ok("POST", "/sandboxes/src/fork", { count: 10 });
    expect(sandboxes.length).toBe(10);
    expect(pause_ms).toBeGreaterThan(0);
    const answers = await Promise.all(
      sandboxes.map((s: Json) => api.sh(s.id, "hostname; cat /workspace/state")),
    );
    expect(new Set(answers).size).toBe(10);
    await destroyAll(sandboxes);
    const named = await api.ok("POST", "/sandboxes/src/fork", { count: 2, names: ["f1", "f2"] });
    expect(named.sandboxes.map((s: Json) => s.name)).toEqual(["f1", "f2"]);
    expect((await api.call("POST", "/sandboxes/src/fork", { count: 1, names: ["f1"] })).status).toBe(409);
    expect((await api.call("POST", "/sandboxes/src/fork", { count: 0 })).status).toBe(400);
    await destroyAll(named.sandboxes);
  }, 120_000);

  test("rollback keeps the identity and takes a safety snapshot", async () => {
    const before = await api.get("src");
    const machine = await api.sh("src", "cat /etc/machine-id");
    await api.sh("src", "echo v9 >/workspace/state");
    const { sandbox, safety_snapshot } = await api.ok("POST", "/sandboxes/src/restore", {
      snapshot: "s-hot",
    });
    expect(sandbox).toMatchObject({ id: before.id, name: "src", ip: before.ip, status: "running" });
    expect(await api.sh("src", "cat /workspace/state; hostname; cat /etc/machine-id")).toBe(
      `v1\nsrc\n${machine}`,
    );
    await api.ok("POST", "/sandboxes/src/restore", { snapshot: safety_snapshot });
    expect(await api.sh("src", "cat /workspace/state")).toBe("v9");
    await api.sh("src", "echo v1 >/workspace/state");
    for (const s of await api.ok<Json[]>("GET", "/snapshots"))
      if (s.name.startsWith("before-")) await api.ok("DELETE", `/snapshots/${s.name}`);
  }, 60_000);

  test.each(["rollback:begin", "rollback:staged", "rollback:switched", "rollback:end"])(
    "daemon killed at %s: the old machine or the new one, whole",
    async (point) => {
      await api.sh("src", "echo now >/workspace/state; sync");
      installation.fault("kill", point);
      await api.call("POST", "/sandboxes/src/restore", { snapshot: "s-hot" }).catch(() => null);
      await installation.ended();
      await installation.start();
      api = installation.api;
      const state = await api.sh("src", "cat /workspace/state");
      expect(state).toBe(["rollback:switched", "rollback:end"].includes(point) ? "v1" : "now");
      expect((await installation.leftovers()).vmms).toBe(1);
      await api.sh("src", "echo v1 >/workspace/state");
      for (const s of await api.ok<Json[]>("GET", "/snapshots"))
        if (s.name.startsWith("before-")) await api.ok("DELETE", `/snapshots/${s.name}`);
    },
    60_000,
  );
});

describe("export and import", () => {
  test("one file moves a machine, with its memory or its disk alone; damage is noticed", async () => {
    const file = `${installation.dataDir}/export.zst`;
    const response = await fetch(`${installation.url}/snapshots/s-hot/export`, {
      headers: { authorization: `Bearer ${installation.key()}` },
    });
    expect(response.status).toBe(200);
    await Bun.write(file, response);
    const post = (name: string, body: Blob, query = "") =>
      fetch(`${installation.url}/snapshots/import?name=${name}${query}`, {
        method: "POST",
        body,
        headers: { authorization: `Bearer ${installation.key()}` },
      });
    const imported = await post("moved", Bun.file(file));
    expect(imported.status).toBe(201);
    const copy = await resume("moved", { name: "moved-vm" });
    expect(Number(await api.sh(copy.id, "cat /tmp/counter"))).toBeGreaterThan(0);
    await api.destroy(copy.id);
    const cold = await post("cold", Bun.file(file), "&cold=true");
    expect(((await cold.json()) as Json).kind).toBe("disk");
    const booted = await resume("cold", { name: "cold-vm" });
    expect(await api.sh(booted.id, "cat /workspace/state; hostname")).toBe("v1\ncold-vm");
    await api.destroy(booted.id);
    const bytes = new Uint8Array(await Bun.file(file).arrayBuffer());
    bytes[Math.floor(bytes.length / 2)]! ^= 0xff;
    expect((await post("bad", new Blob([bytes]))).status).toBe(400);
    expect((await post("short", new Blob([bytes.slice(0, 5000)]))).status).toBe(400);
    expect((await post("junk", new Blob(["hello"]))).status).toBe(400);
    expect((await api.ok<Json[]>("GET", "/snapshots")).map((s) => s.name).sort()).toEqual([
      "cold",
      "moved",
      "s-cold",
      "s-hot",
      "s-warm",
    ]);
    for (const name of ["moved", "cold"]) await api.ok("DELETE", `/snapshots/${name}`);
  }, 120_000);
});

/** Environments of all VMMs of this host. */
function environments(): string {
  const pids = Bun.spawnSync(["pgrep", "-f", "qemu-system"]).stdout.toString().split("\n").filter(Boolean);
  return pids
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8");
      } catch {
        return "";
      }
    })
    .join("\n");
}

describe("no two clones are the same machine", () => {
  test("randomness, ids, tokens, names and clocks of ten clones of one snapshot", async () => {
    await api.sh("src", "mkdir -p /tmp/tls; openssl rand -hex 8 >/dev/null");
    await snapshot("src", "twin");
    const clones = await Promise.all(Array.from({ length: 10 }, () => resume("twin")));
    const script = `head -c16 /dev/urandom | od -An -tx1 | tr -d ' \\n'; echo
uuidgen
openssl rand -hex 16
(openssl s_client -connect 127.0.0.1:1 -msg 2>/dev/null; openssl rand -hex 32)
cat /etc/machine-id
hostname
cat /proc/sys/kernel/random/uuid
date +%s%3N`;
    const asked = Date.now();
    const lines = (await Promise.all(clones.map((c) => api.sh(c.id, script)))).map((text) =>
      text.split("\n"),
    );
    const took = Date.now() - asked;
    for (let i = 0; i < 7; i++) expect(new Set(lines.map((line) => line[i])).size).toBe(10);
    for (const line of lines) expect(Math.abs(Number(line[7]) - asked)).toBeLessThan(took + 1000);
    const rows = installation.query<{ token: string; machine_id: string; address: string }>(
      "SELECT token, machine_id, address FROM sandboxes",
    );
    for (const key of ["token", "machine_id", "address"] as const)
      expect(new Set(rows.map((r) => r[key])).size).toBe(rows.length);
    const macs = (
      await Promise.all(
        rows.map(
          (r) =>
            Bun.spawnSync(["ip", "neigh", "show", r.address])
              .stdout.toString()
              .match(/lladdr (\S+)/)?.[1],
        ),
      )
    ).filter(Boolean);
    expect(macs.length).toBe(rows.length);
    expect(new Set(macs).size).toBe(macs.length);
    await destroyAll(clones);
    await api.ok("DELETE", "/snapshots/twin");
  }, 180_000);

  test("a TLS client's random differs between clones", async () => {
    await snapshot("src", "tls");
    const clones = await Promise.all([1, 2, 3].map(() => resume("tls")));
    // The ClientHello as bytes: a listener of the guest's own prints the 32 bytes behind record, handshake and version.
    const hello = `perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(LocalAddr=>"127.0.0.1",LocalPort=>4434,Listen=>1,ReuseAddr=>1) or die; if(!fork){open STDIN,"</dev/null"; open STDOUT,">/dev/null"; open STDERR,">/dev/null"; exec qw(openssl s_client -connect 127.0.0.1:4434)} $c=$s->accept; sysread $c,$b,600; print unpack("H*",substr($b,11,32))'`;
    const randoms = await Promise.all(clones.map((c) => api.sh(c.id, hello)));
    expect(randoms.every((r) => /^[0-9a-f]{64}$/.test(r))).toBe(true);
    expect(new Set(randoms).size).toBe(3);
    await destroyAll(clones);
    await api.ok("DELETE", "/snapshots/tls");
  }, 90_000);

  test("an agent that refuses its identity is destroyed and never served", async () => {
    const strict = await Installation.create({
      env: { BHATTI_TEST_KERNEL_ARGS: "bhatti.test=refuse-configure" },
    });
    try {
      const refused = await strict.api.call("POST", "/sandboxes", { name: "refused", memory_mb: 256 });
      expect(refused.status).toBe(500);
      expect((await strict.api.call("GET", "/sandboxes/refused")).status).toBe(404);
      expect(await strict.leftovers()).toMatchObject({ vmms: 0, dirs: [] });
    } finally {
      await strict.remove();
    }
  }, 120_000);

  test("no secret of a sandbox is in a template, manifest, log, event, listing, metric or argument", async () => {
    const secret = "s3cr3t-canary-0001";
    const tokens = installation.query<{ token: string }>("SELECT token FROM sandboxes").map((r) => r.token);
    const events = JSON.stringify(
      installation.query("SELECT * FROM events", `${installation.dataDir}/events.db`),
    );
    expect(events).toContain("sandbox.created");
    const wanted = [secret, installation.key(), ...tokens.filter(Boolean)];
    expect(wanted.length).toBeGreaterThan(2);
    const places: Record<string, string> = {
      log: installation.log(),
      events,
      arguments: Bun.spawnSync(["ps", "-eo", "args"]).stdout.toString(),
      environments: environments(),
      list: JSON.stringify(await api.ok("GET", "/sandboxes")),
      inspect: JSON.stringify(await api.ok("GET", "/sandboxes/src?detail=true")),
      snapshots: JSON.stringify(await api.ok("GET", "/snapshots")),
      metrics: await api.ok("GET", "/metrics"),
      config: readFileSync(`${installation.dataDir}/config.yaml`, "utf8"),
    };
    const found = Object.entries(places).flatMap(([place, text]) =>
      wanted.filter((word) => text.includes(word)).map((word) => `${place}: ${word.slice(0, 6)}…`),
    );
    expect(found).toEqual([]);
    expect(readdirSync(`${installation.dataDir}/reserved/templates`).length).toBeGreaterThan(0);
    for (const dir of ["templates", "reserved/templates", "images", "kernel"])
      expect(holders(`${installation.dataDir}/${dir}`, wanted)).toEqual([]);
    // The control: the search finds what is there. The sandbox's own memory holds its environment.
    await api.stop("src");
    const { engine_id } = await api.get("src");
    const own = [
      ...new Bun.Glob(`**/${engine_id}/mem*`).scanSync({ cwd: installation.dataDir, onlyFiles: true }),
    ];
    expect(own.length).toBeGreaterThan(0);
    expect(own.some((file) => holds(`${installation.dataDir}/${file}`, [secret]))).toBe(true);
    await api.start("src");
  }, 60_000);

  test("a template's files are unchanged after 200 clones that dirtied memory", async () => {
    const [key] = readdirSync(`${installation.dataDir}/templates`).filter((name) => !name.startsWith("."));
    const { dataDir } = installation;
    const files = [`${dataDir}/templates/${key}`, `${dataDir}/reserved/templates/${key}`].flatMap((dir) =>
      readdirSync(dir).map((file) => `${dir}/${file}`),
    );
    expect(files.length).toBe(4);
    const sums = () =>
      files.map((file) => `${file} ${createHash("sha256").update(readFileSync(file)).digest("hex")}`);
    const before = sums();
    await api.stop("src"); // its counter would take the CPU
    for (let i = 0; i < 200; i += 10) {
      const batch = await Promise.all(Array.from({ length: 10 }, () => api.create()));
      // Memory and disk of each are filled and given back: free page reporting punches holes, into the clone's own file.
      const dirtied = await Promise.all(
        batch.map((s) =>
          api.sh(
            s.id,
            "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 status=none; dd if=/dev/zero of=/workspace/x bs=1M count=2 conv=fsync status=none; stat -c %s /dev/shm/x; rm /dev/shm/x",
          ),
        ),
      );
      expect(dirtied).toEqual(Array(10).fill("8388608"));
      await destroyAll(batch);
    }
    expect(sums()).toEqual(before);
    writeFileSync(`${installation.dataDir}/clones-done`, "200");
  }, 800_000);

  test("a damaged template is built anew, by the create that finds it and at the daemon's start", async () => {
    const state = () => {
      const [key] = readdirSync(`${installation.dataDir}/templates`).filter((name) => !name.startsWith("."));
      return `${installation.dataDir}/templates/${key}/state`;
    };
    const good = readFileSync(state());
    truncateSync(state(), 1000);
    // Several meet the damage at the same time: none fails, and none takes away what another has built anew.
    const made = await Promise.all([1, 2, 3].map(() => api.create()));
    for (const { id } of made) expect(await api.sh(id, "echo whole")).toBe("whole");
    expect(readFileSync(state()).length).toBeGreaterThan(good.length / 2);
    await destroyAll(made);
    truncateSync(state(), 1000);
    await installation.restart();
    api = installation.api;
    expect(readdirSync(`${installation.dataDir}/templates`)).toEqual([]);
    await api.destroy((await api.create()).id);
  }, 120_000);
});
