/** The QEMU engine: microvm machines under KVM where it works, under emulation anywhere else. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { chown, mkdir, truncate, writeFile } from "node:fs/promises";
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
import { isAlive, procStat, uidOf } from "../host/proc.ts";
import { killUids, liveUids } from "../host/users.ts";
import { explain } from "../host/words.ts";
import {
  accelerator,
  cpuModel,
  driveInJail,
  hostTscKhz,
  IN_JAIL,
  machine,
  type QemuHost,
  qemuArguments,
} from "./args.ts";
import { Qmp } from "./qmp.ts";
import { loadState } from "./state.ts";
import { QemuVm } from "./vm.ts";

export interface QemuOptions {
  /** The `lohar` binary, which is the jail launcher. */
  lohar: string;
  accel: "kvm" | "tcg";
  binary?: string;
  /** Kernel arguments for tests. */
  extraKernelArgs?: string;
  /** `learn` lets the VMM make every system call, and the kernel log the ones that are not allowed: docs/jail.md. */
  seccomp?: "enforce" | "learn";
}

/** Threads of a VMM beside its vCPUs: QEMU's pool for disk requests has up to 64. */
const THREADS = 192;
const START_MS = 30_000;

export class QemuEngine implements Engine {
  readonly name = "qemu";
  readonly accel: "kvm" | "tcg";
  private readonly cgroups = new Cgroups();

  private constructor(
    readonly host: QemuHost,
    private readonly options: QemuOptions,
  ) {
    this.accel = options.accel;
  }

  /** Throws EngineError when QEMU is missing or too old (7.2 is the oldest that works). */
  static create(options: QemuOptions): QemuEngine {
    const binary = options.binary ?? "/usr/bin/qemu-system-x86_64";
    if (!existsSync(binary)) throw new EngineError(`${binary} is not installed (package qemu-system-x86)`);
    const out = Bun.spawnSync([binary, "--version"]).stdout.toString();
    const found = out.match(/version (\d+)\.(\d+)/);
    const version: [number, number] = [Number(found?.[1] ?? 0), Number(found?.[2] ?? 0)];
    if (version[0] < 7 || (version[0] === 7 && version[1] < 2))
      throw new EngineError(`QEMU 7.2 or later is needed, found: ${out.trim()}`);
    return new QemuEngine({ binary, version, accel: options.accel, tscKhz: hostTscKhz() }, options);
  }

  fingerprint(): string {
    const cpu = readFileSync("/proc/cpuinfo", "utf8");
    const model = cpu.match(/^model name.*$/m)?.[0] ?? "";
    const flags = cpu.match(/^flags.*$/m)?.[0] ?? "";
    const parts = [
      "qemu",
      this.host.version.join("."),
      machine,
      accelerator(this.host),
      cpuModel(this.host),
      model,
      flags,
    ];
    return createHash("sha256").update(parts.join("\n")).digest("hex").slice(0, 32);
  }

  async boot(spec: VmSpec): Promise<Vm> {
    await writeFile(spec.memoryPath, "", { mode: 0o600 });
    await truncate(spec.memoryPath, spec.shape.memoryMib * 1024 * 1024);
    await chown(spec.memoryPath, spec.uid, spec.uid);
    await beginConsole(spec.dir);
    return this.launch(spec);
  }

  async restore(spec: VmSpec, statePath: string): Promise<Vm> {
    const vm = await this.launch(spec, statePath);
    try {
      await loadState(vm.qmp);
      return vm;
    } catch (error) {
      await vm.kill();
      throw vm.explain(error);
    }
  }

  async adopt(spec: VmSpec, process: VmmProcess, deadlineMs: number): Promise<Vm | null> {
    const alive = () => isAlive(process.pid, process.startTime);
    if (!alive() || uidOf(process.pid) !== spec.uid) return null;
    if (!existsSync(socketPath(spec)))
      throw new EngineError(
        "it has no control socket: another version of bhatti started it",
        "",
        {},
        "nonsense",
      );
    try {
      const qmp = await Qmp.connect(socketPath(spec), { pid: process.pid, uid: spec.uid }, deadlineMs, alive);
      return new QemuVm(spec, process, qmp, this.cgroups, () => this.cleanUp(spec));
    } catch (error) {
      if (!alive()) return null;
      throw error;
    }
  }

  readonly liveUids = liveUids;
  readonly killUids = killUids;

  async warmUp(spec: VmSpec): Promise<void> {
    await run([this.options.lohar, "poke", "--netns", spec.netns]);
  }

  /** `statePath`: a device state that the VMM will be told to load. */
  private async launch(spec: VmSpec, statePath?: string): Promise<QemuVm> {
    const qmpSocket = socketPath(spec);
    // Both are root's. `vm` is a mount point in the VMM's namespace alone; into `out` the VMM may look.
    for (const name of ["vm", "out"]) await mkdir(`${spec.dir}/${name}`, { recursive: true, mode: 0o700 });
    const cgroup = await this.cgroups.create(spec, spec.cpus ?? spec.shape.vcpus);
    const cleanUp = () => this.cgroups.remove(cgroup);
    const fileLimit = await largestFile(spec);
    const keeper = startKeeper(this.command(spec, qmpSocket, fileLimit, cgroup, statePath));
    const exit = keeper.exited.then((code) => (keeper.signalCode ? null : code));
    try {
      const pid = await pidFrom(keeper.stdout);
      const startTime = procStat(pid)?.startTime ?? 0;
      const alive = () => isAlive(pid, startTime);
      const qmp = await Qmp.connect(qmpSocket, { pid, uid: spec.uid }, START_MS, alive);
      return new QemuVm(spec, { pid, startTime }, qmp, this.cgroups, cleanUp, exit);
    } catch (cause) {
      // The VMM ends with its keeper.
      keeper.kill("SIGKILL");
      await keeper.exited;
      await killUids([spec.uid]);
      await cleanUp();
      throw explain(spec.dir, cause, "the VMM did not start");
    }
  }

  private command(
    spec: VmSpec,
    qmpSocket: string,
    fileLimit: number,
    cgroup: string | null,
    statePath: string | undefined,
  ): string[] {
    const jail = [this.options.lohar, "jail", "--root", `${spec.dir}/vm`, "--netns", spec.netns];
    jail.push("--log", vmmLogFile(spec.dir), "--console", consoleFile(spec.dir));
    jail.push("--qmp", qmpSocket, "--out", `${spec.dir}/out`);
    jail.push("--fsize", String(fileLimit), "--nproc", String(THREADS + spec.shape.vcpus));
    jail.push("--seccomp", this.options.seccomp ?? "enforce");
    if (statePath) jail.push("--incoming", statePath);
    jail.push("--uid", String(spec.uid), "--gid", String(spec.uid), "--dev", "net/tun");
    if (this.accel === "kvm") jail.push("--dev", "kvm");
    if (cgroup) jail.push("--cgroup", cgroup);
    jail.push("--bind", `${spec.memoryPath}:${IN_JAIL.memory}`);
    jail.push(
      "--bind",
      `${spec.kernel.vmlinux}:${IN_JAIL.kernel}:ro`,
      "--bind",
      `${spec.kernel.initramfs}:${IN_JAIL.initramfs}:ro`,
    );
    for (const [index, drive] of spec.drives.entries()) {
      jail.push("--bind", `${drive.path}:${driveInJail(index)}${drive.readOnly ? ":ro" : ""}`);
    }
    return [
      ...jail,
      "--",
      this.host.binary,
      ...qemuArguments(spec, this.host, statePath !== undefined, this.options.extraKernelArgs),
    ];
  }

  private async cleanUp(spec: VmSpec): Promise<void> {
    await this.cgroups.remove(this.cgroups.available() ? `/sys/fs/cgroup/bhatti/${spec.id}` : null);
  }
}

/** The kernel's limit for socket paths is 107 bytes: a data directory that is too deep is refused with its reason. */
function socketPath(spec: VmSpec): string {
  const path = `${spec.dir}/qmp.sock`;
  if (path.length > 107) throw new EngineError(`the data directory's path is too long for sockets: ${path}`);
  return path;
}
