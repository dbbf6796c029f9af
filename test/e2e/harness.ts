/** Starts real daemons for tests: own data directory on btrfs, own network names, real VMs. */

import { Database } from "bun:sqlite";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { daemonFile, databaseFile } from "../../src/daemon/files.ts";
import { loharPath } from "../../src/daemon/programs.ts";
import type { WantedEngine } from "../../src/engine/choose.ts";
import { buildImage } from "../../src/images/build.ts";
import { installKernel } from "../../src/kernel/install.ts";
import { hex } from "../../src/lib/ids.ts";
import { run } from "../../src/lib/run.ts";
import { hostMemory } from "../../src/sandboxes/memory.ts";
import { unmountReserve } from "../../src/storage/reserve.ts";
import { Api } from "./api.ts";
import { BASE_VARIABLE } from "./base-leftovers.ts";
import { claimBase, exclusively } from "./claim.ts";

/** Kept between runs: kernel and image are the same for every test. */
export const BASE = process.env.BHATTI_TEST_DIR ?? "/var/tmp/bhatti-test";
const MNT = `${BASE}/mnt`;
const ROOT = `${import.meta.dir}/../..`;

/** The engine that test daemons are told to use: BHATTI_TEST_ENGINE. */
export function engineWanted(): WantedEngine {
  const wanted = process.env.BHATTI_TEST_ENGINE ?? "auto";
  if (wanted === "auto" || wanted === "qemu" || wanted === "firecracker") return wanted;
  throw new Error(`BHATTI_TEST_ENGINE=${wanted}: auto, qemu or firecracker`);
}

/** Mounts the test file system and installs kernel and image once. */
export function prepareBase(progress: (text: string) => void = () => {}): Promise<void> {
  return exclusively(`prepare${BASE}`, () => prepare(progress));
}

async function prepare(progress: (text: string) => void): Promise<void> {
  mkdirSync(MNT, { recursive: true });
  const mounted = readFileSync("/proc/mounts", "utf8").includes(` ${MNT} `);
  if (!mounted) {
    progress("creating the test file system");
    const image = imageFile();
    rmSync(image, { force: true });
    writeFileSync(image, "", { mode: 0o600 });
    await run(["truncate", "-s", "64G", image]);
    await run(["mkfs.btrfs", "-q", image]);
    await run(["mount", "-o", "loop,noatime,discard=async", image, MNT]);
  }
  await run(["chmod", "700", BASE, MNT]);
  const dataDir = `${MNT}/base`;
  if (process.env.BHATTI_TEST_PREPARED) return copyPrepared(process.env.BHATTI_TEST_PREPARED, dataDir);
  await installKernel({ dataDir, lohar: await loharPath(dataDir), progress });
  await buildImage({ dataDir, name: "minimal", distro: "debian", progress });
}

/** Kernel and image that somebody else made, in the lab. */
async function copyPrepared(from: string, dataDir: string): Promise<void> {
  if (existsSync(`${dataDir}/kernel/current`)) return;
  await run(["mkdir", "-p", "-m", "700", dataDir]);
  await run(["cp", "-a", "--sparse=always", `${from}/images`, `${from}/kernel`, dataDir]);
}

/** One name per BASE: suites with bases of their own do not meet. */
const IN_MEMORY = `/dev/shm/${BASE.replaceAll("/", "_").slice(1)}.btrfs`;

/** In memory where there is plenty: what is tested is the product, not the patience of the machine's disk. */
function imageFile(): string {
  const { bavail, bsize } = statfsSync("/dev/shm");
  const { availableMb } = hostMemory();
  return bavail * bsize > 15e9 && availableMb > 17_000 ? IN_MEMORY : `${BASE}/bhatti-test.btrfs`;
}

/** Unmounts the test file system and gives its space back. */
export async function removeBase(): Promise<void> {
  const inside = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((at) => at.startsWith(`${MNT}/`));
  for (const at of inside) await run(["umount", at]).catch(() => run(["umount", "-l", at]));
  if (readFileSync("/proc/mounts", "utf8").includes(` ${MNT} `))
    await run(["umount", MNT]).catch(() => run(["umount", "-l", MNT]));
  for (const file of [IN_MEMORY, `${BASE}/bhatti-test.btrfs`]) rmSync(file, { force: true });
  rmSync(BASE, { recursive: true, force: true });
}

export interface DaemonOptions {
  /** Lines of the configuration beyond what a test daemon needs. */
  config?: Record<string, unknown>;
  env?: Record<string, string>;
  /** Use this directory instead of a btrfs one (copy mode tests). */
  dataDir?: string;
}

/** One installation: its directory, its users, and the daemon process that comes and goes. */
export class Installation {
  private child: Bun.Subprocess | null = null;
  readonly prefix: string;
  readonly base: number;
  readonly faultFile: string;
  url = "";
  private keys = new Map<string, string>();

  private constructor(
    readonly dataDir: string,
    private readonly options: DaemonOptions,
    private readonly network: ReturnType<typeof claimBase>,
  ) {
    this.prefix = network.prefix;
    this.base = network.base;
    this.faultFile = `${dataDir}/fault`;
    writeFileSync(
      `${dataDir}/config.yaml`,
      Bun.YAML.stringify({
        listen: "127.0.0.1:0",
        data_dir: dataDir,
        network_prefix: this.prefix,
        network_base: network.base,
        network_pool: 2,
        vm_pool: 0,
        templates: [],
        rate_factor: 0,
        warm_after_s: 0,
        cold_after_s: 0,
        memory_pool_mb: 6144,
        engine: engineWanted(),
        ...options.config,
      }),
    );
  }

  static async create(options: DaemonOptions = {}): Promise<Installation> {
    await prepareBase();
    const dataDir = options.dataDir ?? `${MNT}/run-${hex(4)}`;
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    const reflink = options.dataDir ? "--reflink=auto" : "--reflink=always";
    const shared = ["kernel", "images", "kvm-probe.json"]
      .map((name) => `${MNT}/base/${name}`)
      .filter(existsSync);
    await run(["cp", "-a", reflink, ...(options.dataDir ? ["--sparse=always"] : []), ...shared, dataDir]);
    const installation = new Installation(dataDir, options, claimBase());
    await installation.start();
    installation.user("admin", { admin: true, maxSandboxes: 200, maxSnapshots: 50 });
    return installation;
  }

  /** Creates the user on first use; an API client with its key. */
  user(name: string, input: { admin?: boolean; maxSandboxes?: number; maxSnapshots?: number } = {}): Api {
    let key = this.keys.get(name);
    if (!key) {
      const { admin = false, maxSandboxes = 50, maxSnapshots } = input;
      const made = Bun.spawnSync(
        [
          ...[process.execPath, `${ROOT}/src/main.ts`, "user", "create", name, "--data-dir", this.dataDir],
          ...["--json", "--max-sandboxes", String(maxSandboxes), ...(admin ? ["--admin"] : [])],
          ...(maxSnapshots === undefined ? [] : ["--max-snapshots", String(maxSnapshots)]),
        ],
        { stdout: "pipe", stderr: "pipe" },
      );
      if (made.exitCode !== 0) throw new Error(`user create ${name}: ${made.stderr}`);
      key = (JSON.parse(made.stdout.toString()) as { api_key: string }).api_key;
      this.keys.set(name, key);
    }
    return new Api(this.url, key);
  }

  /** Changes limits as root does, while the daemon runs: flags of `bhatti user limits`. */
  limits(name: string, ...flags: string[]): void {
    const args = ["user", "limits", name, "--data-dir", this.dataDir, ...flags];
    const done = Bun.spawnSync([process.execPath, `${ROOT}/src/main.ts`, ...args]);
    if (done.exitCode !== 0) throw new Error(`user limits ${name}: ${done.stderr}`);
  }

  get api(): Api {
    return this.user("admin");
  }

  key(name = "admin"): string {
    return this.keys.get(name)!;
  }

  async start(env: Record<string, string> = {}): Promise<void> {
    rmSync(daemonFile(this.dataDir), { force: true });
    const log = Bun.file(`${this.dataDir}/daemon.log`);
    const previous = (await log.exists()) ? await log.text() : "";
    await Bun.write(log, previous.slice(-2_000_000));
    const fd = await import("node:fs").then((fs) => fs.openSync(`${this.dataDir}/daemon.log`, "a"));
    this.child = Bun.spawn([process.execPath, `${ROOT}/src/main.ts`, "serve"], {
      stdin: "ignore",
      stdout: fd,
      stderr: fd,
      cwd: "/",
      env: {
        ...process.env,
        BHATTI_CONFIG: `${this.dataDir}/config.yaml`,
        BHATTI_FAULT_FILE: this.faultFile,
        [BASE_VARIABLE]: String(this.base),
        ...this.options.env,
        ...env,
      } as Record<string, string>,
    });
    (await import("node:fs")).closeSync(fd);
    const end = Date.now() + 120_000;
    while (!existsSync(daemonFile(this.dataDir))) {
      if (this.child.exitCode !== null || this.child.signalCode)
        throw new Error(`the daemon ended: ${this.log().slice(-3000)}`);
      if (Date.now() > end) throw new Error(`the daemon does not start: ${this.log().slice(-3000)}`);
      await Bun.sleep(20);
    }
    await Bun.sleep(5);
    this.url = JSON.parse(readFileSync(daemonFile(this.dataDir), "utf8")).url;
  }

  /** The database of a stopped daemon. */
  database(): Database {
    return new Database(databaseFile(this.dataDir));
  }

  /** Rows as a running daemon has committed them: it is the only opener, so a copy is read. */
  query<T>(sql: string, file = databaseFile(this.dataDir)): T[] {
    const copy = `${BASE}/copy-${hex(4)}.db`;
    try {
      for (const end of ["", "-wal"]) if (existsSync(file + end)) copyFileSync(file + end, copy + end);
      const db = new Database(copy);
      const rows = db.query(sql).all() as T[];
      db.close();
      return rows;
    } finally {
      for (const end of ["", "-wal", "-shm"]) rmSync(copy + end, { force: true });
    }
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** Waits for the daemon's own end (fault points), whatever its cause. */
  async ended(ms = 60_000): Promise<void> {
    const child = this.child;
    if (!child) return;
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error("the daemon did not end")), ms);
    await Promise.race([child.exited, late]).finally(() => clearTimeout(timer));
    this.child = null;
  }

  /** Keeps what is the same for every installation: the KVM probe's answer. */
  private async share(): Promise<void> {
    const probe = `${this.dataDir}/kvm-probe.json`;
    if (existsSync(probe) && !existsSync(`${MNT}/base/kvm-probe.json`))
      await run(["cp", probe, `${MNT}/base/kvm-probe.json`]);
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    this.child?.kill(signal);
    await this.ended(150_000);
  }

  async restart(signal: NodeJS.Signals = "SIGTERM", env: Record<string, string> = {}): Promise<void> {
    await this.stop(signal);
    await this.start(env);
  }

  /** Arms one fault: see src/lib/fault.ts. */
  fault(action: "kill" | "throw" | "enospc" | "vmm", point: string): void {
    writeFileSync(this.faultFile, `${action} ${point}`);
  }

  faultFired(): boolean {
    return !existsSync(this.faultFile);
  }

  log(): string {
    return existsSync(`${this.dataDir}/daemon.log`) ? readFileSync(`${this.dataDir}/daemon.log`, "utf8") : "";
  }

  /** What the daemon called errors goes to the test's own output: a failed test is read where its daemon is gone. */
  private tellErrors(): void {
    const errors = this.log()
      .split("\n")
      .filter((line) => /^\{"level":[56]0,/.test(line));
    for (const line of errors.slice(-20)) console.error(`daemon: ${line.slice(0, 2000)}`);
  }

  /** Process of a running sandbox's VMM, as the daemon knows it. */
  vmmPid(name: string): number {
    return this.query<{ name: string; pid: number }>("SELECT name, pid FROM sandboxes").find(
      (row) => row.name === name,
    )!.pid;
  }

  /** What is left of this installation on the host, apart from pooled namespaces: names of what leaks. */
  async leftovers(): Promise<{ vmms: number; netns: string[]; dirs: string[] }> {
    // Each VMM has its keeper, and neither lives without the other.
    const ps = await run(["ps", "-eo", "args"]);
    const keeper = `jail --root ${this.dataDir}/sandboxes/`;
    const vmms = ps.split("\n").filter((line) => line.includes(keeper)).length;
    const netns = (await run(["ip", "netns", "list"]))
      .split("\n")
      .map((line) => line.split(" ")[0]!)
      .filter((name) => new RegExp(`^${this.prefix}\\d+$`).test(name));
    const dirs = (await run(["ls", `${this.dataDir}/sandboxes`])).split("\n").filter(Boolean);
    return { vmms, netns, dirs };
  }

  /** Destroys everything and removes the directory. Runs also after failures. */
  async remove(): Promise<void> {
    try {
      if (!this.child || this.child.exitCode !== null || this.child.signalCode) {
        rmSync(this.faultFile, { force: true });
        await this.start();
      }
      for (const name of this.keys.keys()) {
        const api = this.user(name);
        const list = (await api.call<{ id: string }[]>("GET", "/sandboxes")).body;
        await Promise.all(list.map((sandbox) => api.destroy(sandbox.id)));
      }
      await this.stop();
      await this.share();
    } finally {
      this.child?.kill("SIGKILL");
      this.tellErrors();
      await this.cleanHost();
      this.network.release();
      await unmountReserve(this.dataDir);
      if (process.env.BHATTI_TEST_KEEP !== "1") rmSync(this.dataDir, { recursive: true, force: true });
    }
  }

  private async cleanHost(): Promise<void> {
    const { HostNetwork } = await import("../../src/network/create.ts");
    const { createLog } = await import("../../src/lib/log.ts");
    await new HostNetwork({
      prefix: this.prefix,
      base: this.network.base,
      poolSize: 0,
      dnsUpstreams: [],
      allowedPrivate: [],
      log: createLog("error"),
    }).purge();
  }
}
