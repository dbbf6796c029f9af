/**
 * Measures what users feel, on a real daemon with real VMs, against floors measured in the same run.
 *
 *   sudo bun bench/run.ts [--n N] [--json FILE]
 *
 * Prints p50/p95/p99 with n, and the ratios that SPECIFICATION.md promises. A refused request is an error, never fast.
 * The page cache is warm throughout: nothing is dropped between rounds.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { createGuestClient } from "../src/guest/client.ts";
import { Installation, removeBase } from "../test/e2e/harness.ts";
import { rawVmm } from "./raw-vmm.ts";
import { Table } from "./table.ts";

const { values } = parseArgs({
  options: { n: { type: "string", default: "100" }, json: { type: "string" } },
});
const n = Number(values.n);
const few = Math.max(10, Math.floor(n / 2));
const table = new Table();
const ms = async (work: () => Promise<unknown>): Promise<number> => {
  const began = performance.now();
  await work();
  return performance.now() - began;
};
const repeat = async (count: number, work: (i: number) => Promise<number>): Promise<number[]> => {
  const out: number[] = [];
  for (let i = 0; i < count; i++) out.push(await work(i));
  return out;
};

const root = `${import.meta.dir}/..`;
const installation = await Installation.create({ config: { vm_pool: 3, network_pool: 6 } });
const { api } = installation;
try {
  // Command line.
  mkdirSync("/tmp/bhatti-bench", { recursive: true });
  writeFileSync("/tmp/bhatti-bench/empty.ts", "");
  Bun.spawnSync([
    process.execPath,
    "build",
    "--compile",
    "--bytecode",
    "--minify",
    "/tmp/bhatti-bench/empty.ts",
    "--outfile",
    "/tmp/bhatti-bench/empty",
  ]);
  const program = (path: string, ...args: string[]) =>
    ms(
      () =>
        Bun.spawn([path, ...args], {
          stdout: "ignore",
          stderr: "ignore",
          env: {
            PATH: process.env.PATH!,
            BHATTI_URL: installation.url,
            BHATTI_TOKEN: installation.key(),
            HOME: "/tmp/bhatti-bench",
          },
        }).exited,
    );
  await program("/tmp/bhatti-bench/empty");
  table.add("floor: empty compiled program", await repeat(few, () => program("/tmp/bhatti-bench/empty")));
  table.add("bhatti version", await repeat(few, () => program(`${root}/dist/bhatti`, "version")));

  // Create.
  await api.create({ name: "base", memory_mb: 512 });
  await Bun.sleep(4000);
  const firstExec: number[] = [];
  const destroys: number[] = [];
  table.add(
    "create, template hit (1 s apart)",
    await repeat(n, async () => {
      let id = "";
      const began = performance.now();
      const create = await ms(async () => {
        id = (await api.create({ memory_mb: 512 })).id;
      });
      await api.exec(id, ["true"]);
      firstExec.push(performance.now() - began);
      destroys.push(await ms(() => api.ok("DELETE", `/sandboxes/${id}`)));
      await Bun.sleep(1000);
      return create;
    }),
  );
  table.add("create to first exec result", firstExec);
  table.add("destroy", destroys);
  const burst = performance.now();
  const many = await Promise.all(Array.from({ length: 20 }, () => api.create({ memory_mb: 512 })));
  table.note(`20 parallel creates: ${(performance.now() - burst).toFixed(0)} ms in all, no error`);
  await Promise.all(many.map((s) => api.ok("DELETE", `/sandboxes/${s.id}`)));
  const began = performance.now();
  for (let i = 0; i < 20; i++)
    await api.ok("DELETE", `/sandboxes/${(await api.create({ memory_mb: 512 })).id}`);
  table.note(
    `create and destroy back to back: ${(20_000 / (performance.now() - began)).toFixed(2)} per second`,
  );

  // Raw VMM floors.
  const raw = await rawVmm(installation.dataDir, 512);
  table.add("floor: raw QEMU boot to agent", raw.boot);
  table.add("floor: raw QEMU restore to vCPUs running", raw.restore);
  const cold = await Installation.create({ config: { vm_pool: 0 }, env: { BHATTI_TEST_NO_TEMPLATES: "1" } });
  try {
    await cold.api.create({ name: "first", memory_mb: 512 });
    table.add(
      "create, cold boot",
      await repeat(8, (i) => ms(() => cold.api.create({ name: `c${i}`, memory_mb: 512 }))),
    );
  } finally {
    await cold.remove();
  }

  // Exec and files.
  const view = await api.get("base");
  const { Database } = await import("bun:sqlite");
  const db = new Database(`${installation.dataDir}/state.db`, { readonly: true });
  const { token } = db.query("SELECT token FROM sandboxes WHERE name = 'base'").get() as { token: string };
  db.close();
  const guest = createGuestClient({ host: view.ip, port: 1024, token });
  const sink = { stdout() {}, stderr() {} };
  for (let i = 0; i < 20; i++) await api.exec("base", ["true"]);
  // In turns, so that the noise of the machine falls on all of them alike.
  const turns = { guest: [] as number[], http: [] as number[], cli: [] as number[] };
  for (let i = 0; i < n; i++) {
    turns.guest.push(await ms(() => guest.exec({ argv: ["true"] }, sink)));
    turns.http.push(await ms(() => api.exec("base", ["true"])));
    if (i < few) turns.cli.push(await program(`${root}/dist/bhatti`, "exec", "base", "--", "true"));
  }
  table.add("floor: raw guest call, exec true", turns.guest);
  table.add("exec true over kept-alive HTTP", turns.http);
  table.add("exec true by the CLI", turns.cli);
  table.add(
    "10 parallel execs",
    await repeat(20, () =>
      ms(() => Promise.all(Array.from({ length: 10 }, () => api.exec("base", ["true"])))),
    ),
  );
  for (const [size, label] of [
    [1024, "1 KiB"],
    [1 << 20, "1 MiB"],
    [32 << 20, "32 MiB"],
  ] as const) {
    const bytes = new Uint8Array(size);
    table.add(
      `file write ${label}`,
      await repeat(10, () => ms(() => api.ok("PUT", "/sandboxes/base/files?path=/tmp/f", bytes))),
    );
    table.add(
      `file read ${label}`,
      await repeat(10, () =>
        ms(async () => {
          const r = await fetch(`${installation.url}/sandboxes/base/files?path=/tmp/f`, {
            headers: { authorization: `Bearer ${installation.key()}` },
          });
          if ((await r.arrayBuffer()).byteLength !== size) throw new Error("short read");
        }),
      ),
    );
  }
  table.add("list", await repeat(n, () => ms(() => api.ok("GET", "/sandboxes"))));

  // Thermal.
  await api.create({ name: "t", memory_mb: 512, warm_after_s: 1 });
  await api.exec("t", ["true"]);
  const warm: number[] = [];
  const hot: number[] = [];
  for (let i = 0; i < few; i++) {
    await api.until("t", (s) => s.thermal === "warm", 30_000);
    warm.push(await ms(() => api.ok("GET", "/sandboxes/t/ports")));
    await api.ok("GET", "/sandboxes/t/ports");
    hot.push(await ms(() => api.ok("GET", "/sandboxes/t/ports")));
  }
  table.add("request on a hot sandbox (ports)", hot);
  table.add("the same with a warm wake", warm);
  await api.ok("PATCH", "/sandboxes/t", { warm_after_s: 0 });
  const stops: number[] = [];
  const starts: number[] = [];
  const execs: number[] = [];
  const running: number[] = [];
  for (let i = 0; i < few; i++) {
    await Bun.sleep(150);
    stops.push(await ms(() => api.stop("t")));
    starts.push(await ms(() => api.start("t")));
    running.push(lastStart(installation.log()));
    await api.stop("t");
    execs.push(await ms(() => api.exec("t", ["true"])));
  }
  table.add("stop, idle 512 MiB", stops);
  table.add("cold wake: vCPUs running", running);
  table.add("cold wake: start answered", starts);
  table.add("cold wake: first exec result", execs);
  await api.exec(
    "t",
    [
      "perl",
      "-MIO::Socket::INET",
      "-e",
      '$s=IO::Socket::INET->new(LocalPort=>8000,Listen=>9,ReuseAddr=>1); while($c=$s->accept){ sysread $c,$x,4096; print $c "HTTP/1.0 200 OK\\r\\n\\r\\nhi"; close $c }',
    ],
    { detach: true },
  );
  while ((await api.ok<{ container_port: number }[]>("GET", "/sandboxes/t/ports")).length === 0)
    await Bun.sleep(200);
  table.add(
    "cold wake: first HTTP byte",
    await repeat(20, async () => {
      await api.stop("t");
      return ms(() => api.ok("GET", "/sandboxes/t/proxy/8000/"));
    }),
  );

  // Snapshots and forks.
  await api.create({ name: "g", memory_mb: 1024 });
  const pauses: number[] = [];
  for (const count of [1, 10]) {
    table.add(
      `fork ${count} of an idle 1 GiB guest`,
      await repeat(5, async () => {
        let made: { sandboxes: { id: string }[]; pause_ms: number } | undefined;
        const took = await ms(async () => {
          made = await api.ok("POST", "/sandboxes/g/fork", { count });
        });
        pauses.push(made!.pause_ms);
        await Promise.all(made!.sandboxes.map((s) => api.ok("DELETE", `/sandboxes/${s.id}`)));
        return took;
      }),
    );
  }
  table.add("source pause of a fork, idle 1 GiB", pauses);
  for (const memory_mb of [256, 2048]) {
    const { id } = await api.create({ memory_mb });
    table.add(
      `source pause of a snapshot, idle ${memory_mb} MiB`,
      await repeat(5, async (i) => {
        const { pause_ms } = await api.ok("POST", `/sandboxes/${id}/checkpoint`, {
          name: `m${memory_mb}-${i}`,
        });
        await api.ok("DELETE", `/snapshots/m${memory_mb}-${i}`);
        return pause_ms;
      }),
    );
    await api.ok("DELETE", `/sandboxes/${id}`);
  }
  const dirty: number[] = [];
  for (let i = 0; i < 5; i++) {
    await api.sh("g", "head -c 200000000 /dev/urandom >/dev/shm/x");
    dirty.push((await api.ok("POST", "/sandboxes/g/checkpoint", { name: `d${i}` })).pause_ms);
  }
  table.add("source pause of a snapshot, 200 MB just dirtied", dirty);
  table.add(
    "snapshot resume",
    await repeat(10, async () => {
      let id = "";
      const took = await ms(async () => {
        id = (await api.ok("POST", "/snapshots/d0/resume", {})).id;
      });
      await api.ok("DELETE", `/sandboxes/${id}`);
      return took;
    }),
  );

  await api.create({ name: "tiny", memory_mb: 128 });
  table.note(
    `fork 50 of a 128 MiB guest: ${(
      await ms(async () => {
        const { sandboxes } = await api.ok("POST", "/sandboxes/tiny/fork", { count: 50 });
        void Promise.all(sandboxes.map((s: { id: string }) => api.ok("DELETE", `/sandboxes/${s.id}`)));
      })
    ).toFixed(0)} ms`,
  );

  // Memory.
  const idle = await Promise.all(Array.from({ length: 4 }, () => api.create({ memory_mb: 512 })));
  await Bun.sleep(2000);
  const pss = await Promise.all(
    idle.map(
      async (s) => (await api.ok("GET", `/sandboxes/${s.id}?detail=true`)).memory_held_bytes / 1048576,
    ),
  );
  table.note(`memory of an idle clone (Pss): ${pss.map((mb) => mb.toFixed(0)).join(", ")} MB`);
  const daemon = () => Bun.spawnSync(["ps", "-o", "rss=", "-p", String(installation.pid)]).stdout.toString();
  await Promise.all(idle.map((s) => api.ok("DELETE", `/sandboxes/${s.id}`)));
  for (let i = 0; i < 100; i += 5) {
    await Promise.all(
      [0, 1, 2, 3, 4].map((k) =>
        api.create({ name: `cold-${i + k}`, memory_mb: 128 }).then(() => api.stop(`cold-${i + k}`)),
      ),
    );
  }
  for (const s of await api.ok<{ id: string }[]>("GET", "/sandboxes")) await api.stop(s.id);
  await Bun.sleep(3000);
  const ticks = () =>
    Number(readFileSync(`/proc/${installation.pid}/stat`, "utf8").split(" ")[13]) +
    Number(readFileSync(`/proc/${installation.pid}/stat`, "utf8").split(" ")[14]);
  const before = ticks();
  await Bun.sleep(10_000);
  table.note(`daemon with 100 cold sandboxes: ${((ticks() - before) * 10).toFixed(0)} ms of CPU in 10 s`);
  table.note(`daemon memory (RSS): ${(Number(daemon()) / 1024).toFixed(0)} MB`);
} finally {
  await installation.remove();
  await removeBase();
  rmSync("/tmp/bhatti-bench", { recursive: true, force: true });
}
table.print();
table.judge();
if (values.json) writeFileSync(values.json, JSON.stringify(table.rows, null, 2));

/** Milliseconds from the beginning of the last start to its vCPUs, from the daemon's own trace line. */
function lastStart(log: string): number {
  const line = log.split("\n").findLast((text) => text.includes('"transition":"start"'));
  const { steps } = JSON.parse(line!) as { steps: Record<string, number> };
  return ["verified", "begin", "network", "loaded", "consumed", "resumed"].reduce(
    (sum, step) => sum + (steps[step] ?? 0),
    0,
  );
}
