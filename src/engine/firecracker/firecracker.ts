/** The Firecracker engine: KVM, its own jailer, memory mapped privately from the VM's file. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { chown, mkdir, rm, truncate, writeFile } from "node:fs/promises";
import { run } from "../../lib/run.ts";
import { beginConsole } from "../console.ts";
import {
  consoleFile,
  type Engine,
  EngineError,
  type Vm,
  type VmmProcess,
  type VmSpec,
  vmmLogFile,
} from "../engine.ts";
import { Cgroups } from "../host/cgroup.ts";
import { largestFile, pidFrom, startKeeper } from "../host/launcher.ts";
import { tryLock } from "../host/libc.ts";
import { isAlive, procStat, uidOf } from "../host/proc.ts";
import { killUids, liveUids } from "../host/users.ts";
import { explain } from "../host/words.ts";
import { Api } from "./api.ts";
import { type Binaries, findBinaries } from "./binaries.ts";
import { driveInJail, IN_JAIL, kernelArguments, machineRequests } from "./machine.ts";
import { assertFits, HEAD } from "./state.ts";
import { endedByItself, endedVm, FirecrackerVm } from "./vm.ts";

export interface FirecrackerOptions {
  /** The `lohar` binary, which prepares the jail and keeps the VMM. */
  lohar: string;
  /** Where `firecracker` and `jailer` are. */
  dir: string;
  /** Kernel arguments for tests. */
  extraKernelArgs?: string;
}

/** Threads of a VMM beside its vCPUs. */
const THREADS = 192;
const START_MS = 30_000;
/** Loading a state or starting the vCPUs, on a host that is busy or nested, ms. */
const BUILD_MS = 60_000;
const LOCK_POLL_MS = 20;

export class FirecrackerEngine implements Engine {
  readonly name = "firecracker";
  readonly accel = "kvm";
  readonly liveUids = liveUids;
  readonly killUids = killUids;
  private readonly cgroups = new Cgroups();

  private constructor(
    readonly binaries: Binaries,
    private readonly options: FirecrackerOptions,
  ) {}

  /** Throws EngineError when Firecracker or its jailer is missing, too old, or not what can run in a jail. */
  static create(options: FirecrackerOptions): FirecrackerEngine {
    return new FirecrackerEngine(findBinaries(options.dir), options);
  }

  fingerprint(): string {
    const cpu = readFileSync("/proc/cpuinfo", "utf8");
    const parts = [
      this.binaries.digest,
      kernelArguments(this.options.extraKernelArgs ?? ""),
      cpu.match(/^model name.*$/m)?.[0] ?? "",
      cpu.match(/^flags.*$/m)?.[0] ?? "",
      // Its states are made for the KVM that made them.
      readFileSync("/proc/sys/kernel/osrelease", "utf8").match(/^\d+\.\d+/)?.[0] ?? "",
    ];
    const hash = createHash("sha256").update(parts.join("\n")).digest("hex").slice(0, 32);
    return `firecracker-${this.binaries.version}-${hash}`;
  }

  async boot(spec: VmSpec): Promise<Vm> {
    await writeFile(spec.memoryPath, "", { mode: 0o600 });
    await truncate(spec.memoryPath, spec.shape.memoryMib * 1024 * 1024);
    await chown(spec.memoryPath, spec.uid, spec.uid);
    await beginConsole(spec.dir);
    const vm = await this.launch(spec);
    return this.build(vm, async () => {
      for (const [path, body] of machineRequests(spec, this.options.extraKernelArgs))
        await vm.api.put(path, body, BUILD_MS);
    });
  }

  async restore(spec: VmSpec, statePath: string): Promise<Vm> {
    await assertFits(spec, this.binaries.version, statePath);
    const vm = await this.launch(spec, statePath);
    return this.build(vm, async () => {
      const load = {
        snapshot_path: IN_JAIL.state,
        mem_backend: { backend_type: "File", backend_path: IN_JAIL.memory },
        track_dirty_pages: true,
        resume_vm: false,
        clock_realtime: true,
      };
      await vm.api.put("/snapshot/load", load, BUILD_MS);
    });
  }

  async adopt(spec: VmSpec, process: VmmProcess, deadlineMs: number): Promise<Vm | null> {
    const alive = () => isAlive(process.pid, process.startTime);
    if (!alive()) return process.pid > 0 && endedByItself(spec.dir) ? endedVm(spec, process) : null;
    if (uidOf(process.pid) !== spec.uid) return null;
    const end = Date.now() + deadlineMs;
    const lock = await this.lock(spec, end);
    try {
      const peer = { pid: process.pid, uid: spec.uid };
      const api = await Api.connect(socketOf(process.pid), peer, Math.max(end - Date.now(), 100), alive);
      return new FirecrackerVm(
        spec,
        process,
        api,
        this.installed(spec),
        this.cgroups,
        () => this.cleanUp(spec),
        lock.release,
      );
    } catch (error) {
      lock.release();
      if (!alive()) return null;
      throw error;
    }
  }

  async warmUp(spec: VmSpec): Promise<void> {
    await run([this.options.lohar, "poke", "--netns", spec.netns]);
  }

  /** A machine half built is none. */
  private async build(vm: FirecrackerVm, work: () => Promise<void>): Promise<Vm> {
    try {
      await work();
      return vm;
    } catch (error) {
      // First what it said: after a state that it cannot load it ends by itself.
      await vm.kill();
      throw vm.explain(error);
    }
  }

  /** A VMM that has no machine yet. `statePath`: a device state that it will be told to load. */
  private async launch(spec: VmSpec, statePath?: string): Promise<FirecrackerVm> {
    // Both are root's. `vm` is a mount point in the VMM's namespace alone; of `out` it sees single files.
    for (const name of ["vm", "out"]) await mkdir(`${spec.dir}/${name}`, { recursive: true, mode: 0o700 });
    const installed = this.installed(spec);
    await rm(installed.saved, { force: true });
    await writeFile(installed.saved, "", { flag: "wx", mode: 0o600 });
    await chown(installed.saved, spec.uid, spec.uid);
    const lock = await this.lock(spec, Date.now());
    const cgroup = await this.cgroups.create(spec, spec.cpus ?? spec.shape.vcpus);
    const keeper = startKeeper(await this.command(spec, cgroup, statePath));
    const exit = keeper.exited.then((code) => (keeper.signalCode ? null : code));
    try {
      const pid = await pidFrom(keeper.stdout);
      const startTime = procStat(pid)?.startTime ?? 0;
      const alive = () => isAlive(pid, startTime);
      const api = await Api.connect(socketOf(pid), { pid, uid: spec.uid }, START_MS, alive);
      const cleanUp = () => this.cgroups.remove(cgroup);
      return new FirecrackerVm(
        spec,
        { pid, startTime },
        api,
        installed,
        this.cgroups,
        cleanUp,
        lock.release,
        exit,
      );
    } catch (cause) {
      keeper.kill("SIGKILL");
      await keeper.exited;
      await killUids([spec.uid]);
      lock.release();
      await this.cgroups.remove(cgroup);
      throw explain(spec.dir, cause, "the VMM did not start");
    }
  }

  private async command(
    spec: VmSpec,
    cgroup: string | null,
    statePath: string | undefined,
  ): Promise<string[]> {
    const bind = (from: string, to: string, readOnly: boolean) => [
      "--bind",
      `${from}:${to}${readOnly ? ":ro" : ""}`,
    ];
    return [
      ...[this.options.lohar, "jail", "--jailer", this.binaries.jailer, "--id", spec.id],
      ...["--root", `${spec.dir}/vm`, "--netns", spec.netns, "--uid", `${spec.uid}`, "--gid", `${spec.uid}`],
      ...["--log", vmmLogFile(spec.dir), "--console", consoleFile(spec.dir)],
      ...["--log-fifo", `${spec.dir}/out/log`],
      ...["--fsize", `${await largestFile(spec)}`, "--nproc", `${THREADS + spec.shape.vcpus}`],
      ...(cgroup ? ["--cgroup", cgroup] : []),
      ...bind(spec.memoryPath, IN_JAIL.memory, false),
      ...bind(this.installed(spec).saved, IN_JAIL.saved, false),
      ...spec.drives.flatMap(({ path, readOnly }, index) => bind(path, driveInJail(index), readOnly)),
      ...(statePath
        ? ["--copy", `${statePath}:${IN_JAIL.state}:${HEAD}`]
        : [
            ...bind(spec.kernel.vmlinux, IN_JAIL.kernel, true),
            ...bind(spec.kernel.initramfs, IN_JAIL.initramfs, true),
          ]),
      ...["--", this.binaries.firecracker, "--api-sock", IN_JAIL.socket],
      ...["--log-path", IN_JAIL.log, "--level", "Warning"],
    ];
  }

  private installed(spec: VmSpec) {
    return { version: this.binaries.version, saved: `${spec.dir}/out/saved` };
  }

  /** Firecracker answers whoever connects. Only one may lead a VM: who waits for the other's end sees a silent VMM. */
  private async lock(spec: VmSpec, end: number): Promise<{ release(): void }> {
    for (;;) {
      const lock = tryLock(`${spec.dir}/api.lock`);
      if (lock) return lock;
      if (Date.now() >= end) throw new EngineError("somebody else leads this VM", "", {}, "silent");
      await Bun.sleep(LOCK_POLL_MS);
    }
  }

  private async cleanUp(spec: VmSpec): Promise<void> {
    await this.cgroups.remove(this.cgroups.available() ? `/sys/fs/cgroup/bhatti/${spec.id}` : null);
  }
}

/** In the jail, which nobody else sees. */
const socketOf = (pid: number): string => `/proc/${pid}/root${IN_JAIL.socket}`;
