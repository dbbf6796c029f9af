/** The QEMU engine: microvm machines under KVM where it works, under emulation anywhere else. */
import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { chmod, chown, mkdir, rm, truncate, writeFile } from "node:fs/promises";
import { run } from "../../lib/run.ts";
import { type Engine, EngineError, type Vm, type VmmProcess, type VmSpec } from "../engine.ts";
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
import { Cgroups } from "./cgroup.ts";
import { isAlive, liveUids, pidsOf, procStat, uidOf } from "./proc.ts";
import { Qmp } from "./qmp.ts";
import { loadState } from "./state.ts";
import { QemuVm, tailOf } from "./vm.ts";

export interface QemuOptions {
  /** The `lohar` binary, which is the jail launcher. */
  lohar: string;
  accel: "kvm" | "tcg";
  binary?: string;
  /** Kernel arguments for tests. */
  extraKernelArgs?: string;
}

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
    return this.launch(spec, false);
  }

  async restore(spec: VmSpec, statePath: string): Promise<Vm> {
    const vm = await this.launch(spec, true);
    try {
      await loadState(vm.qmp, vm.root, statePath);
      return vm;
    } catch (error) {
      const explained = await vm.explain(error);
      await vm.kill();
      throw explained;
    }
  }

  async adopt(spec: VmSpec, process: VmmProcess): Promise<Vm | null> {
    if (!isAlive(process.pid, process.startTime) || uidOf(process.pid) !== spec.uid) return null;
    const qmp = await Qmp.connect(this.socketPath(spec, IN_JAIL.qmp), 5000, () =>
      isAlive(process.pid, process.startTime),
    );
    return new QemuVm(spec, process, qmp, () => this.cleanUp(spec));
  }

  async killUid(uid: number): Promise<void> {
    for (let i = 0; i < 400; i++) {
      const pids = pidsOf(uid);
      if (pids.length === 0) return;
      for (const pid of pids) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {}
      }
      await Bun.sleep(5);
    }
    throw new EngineError(`processes of uid ${uid} do not end`);
  }

  async killStrays(from: number, to: number, keep: Set<number>): Promise<void> {
    for (const uid of liveUids()) if (uid >= from && uid <= to && !keep.has(uid)) await this.killUid(uid);
  }

  async warmUp(spec: VmSpec): Promise<void> {
    await run([this.options.lohar, "poke", "--netns", spec.netns]);
  }

  /** The kernel's limit for socket paths is 107 bytes: a data directory that is too deep is refused with its reason. */
  private socketPath(spec: VmSpec, name: string): string {
    const path = `${spec.dir}/vm${name}`;
    if (path.length > 107)
      throw new EngineError(`the data directory's path is too long for sockets: ${path}`);
    return path;
  }

  private async launch(spec: VmSpec, incoming: boolean): Promise<QemuVm> {
    const root = `${spec.dir}/vm`;
    await rm(root, { recursive: true, force: true });
    await mkdir(root, { recursive: true, mode: 0o700 });
    await chown(root, spec.uid, spec.uid);
    await chmod(root, 0o700);
    const cgroup = await this.cgroups.create(spec, spec.shape.vcpus);
    const log = openSync(`${spec.dir}/vmm.log`, "w", 0o600);
    let child: Bun.Subprocess;
    try {
      child = Bun.spawn(this.command(spec, root, cgroup, incoming), {
        stdin: "ignore",
        stdout: log,
        stderr: log,
        env: {},
        // The VMM outlives the daemon: it must not die with it, nor keep it from ending.
        detached: true,
      });
    } finally {
      closeSync(log);
    }
    child.unref();
    const pid = child.pid;
    const startTime = procStat(pid)?.startTime ?? 0;
    const exit = child.exited.then((code) => (child.signalCode ? null : code));
    const cleanUp = async () => {
      await this.cgroups.remove(cgroup);
    };
    try {
      const qmp = await Qmp.connect(this.socketPath(spec, IN_JAIL.qmp), START_MS, () =>
        isAlive(pid, startTime),
      );
      return new QemuVm(spec, { pid, startTime }, qmp, cleanUp, exit);
    } catch (cause) {
      child.kill("SIGKILL");
      await child.exited;
      await cleanUp();
      throw new EngineError("the VMM did not start", tailOf(`${spec.dir}/vmm.log`), { cause });
    }
  }

  private command(spec: VmSpec, root: string, cgroup: string | null, incoming: boolean): string[] {
    const jail = [this.options.lohar, "jail", "--root", root, "--netns", spec.netns];
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
      ...qemuArguments(spec, this.host, incoming, this.options.extraKernelArgs),
    ];
  }

  private async cleanUp(spec: VmSpec): Promise<void> {
    await this.cgroups.remove(this.cgroups.available() ? `/sys/fs/cgroup/bhatti/${spec.id}` : null);
  }
}
