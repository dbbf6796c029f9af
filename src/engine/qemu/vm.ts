/** A live QEMU process. */
import { readFileSync } from "node:fs";
import { EngineError, type Vm, type VmExit, type VmmProcess, type VmSpec, type VmState } from "../engine.ts";
import { isAlive, memoryOf, procStat } from "./proc.ts";
import type { Qmp } from "./qmp.ts";
import { saveState } from "./state.ts";

/** How often the end of a process that is not our child is looked for, once its socket closed, ms. */
const POLL_MS = 5;
const TAIL = 64 << 10;

export class QemuVm implements Vm {
  readonly exited: Promise<VmExit>;

  constructor(
    readonly spec: VmSpec,
    readonly process: VmmProcess,
    /** The engine loads the device state through it. */
    readonly qmp: Qmp,
    private readonly cleanUp: () => Promise<void>,
    /** Exit code of our own child; absent for an adopted process. */
    childExit?: Promise<number | null>,
  ) {
    this.exited = this.watch(childExit);
  }

  get root(): string {
    return `${this.spec.dir}/vm`;
  }

  async state(): Promise<VmState> {
    if (!isAlive(this.process.pid, this.process.startTime)) return "exited";
    const { running } = await this.qmp.call<{ running: boolean }>("query-status").catch((error) => {
      if (!isAlive(this.process.pid, this.process.startTime)) return { running: false };
      throw error;
    });
    if (!isAlive(this.process.pid, this.process.startTime)) return "exited";
    return running ? "running" : "paused";
  }

  async pause(): Promise<void> {
    await this.qmp.call("stop");
  }

  async resume(): Promise<void> {
    await this.qmp.call("cont");
  }

  saveState(path: string): Promise<void> {
    return saveState(this.qmp, this.root, this.spec.uid, path);
  }

  async resizeDrive(id: string, bytes: number): Promise<void> {
    await this.qmp.call("block_resize", { device: id, size: bytes });
  }

  async kill(): Promise<void> {
    const { pid, startTime } = this.process;
    if (isAlive(pid, startTime)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {}
    }
    await this.exited;
  }

  cpuMs(): number {
    const stat = procStat(this.process.pid);
    const ticksPerSecond = 100;
    return stat?.startTime === this.process.startTime ? (stat.cpuTicks * 1000) / ticksPerSecond : 0;
  }

  memory() {
    return memoryOf(this.process.pid);
  }

  /** Last output of the guest's console, from the ring in the VMM. Empty when the VMM is gone. */
  async console(): Promise<string> {
    return this.qmp.call<string>("ringbuf-read", { device: "console", size: TAIL }, 2000).catch(() => "");
  }

  /** Turns a failure into an EngineError that carries what VMM and guest said. */
  async explain(cause: unknown): Promise<EngineError> {
    const console = await this.console();
    const message = cause instanceof Error ? cause.message : String(cause);
    return new EngineError(message, `vmm: ${this.stderr()}\nconsole: ${console}`, { cause });
  }

  private stderr(): string {
    return tailOf(`${this.spec.dir}/vmm.log`);
  }

  private async watch(childExit: Promise<number | null> | undefined): Promise<VmExit> {
    const code = childExit ? await childExit : null;
    if (!childExit) {
      await this.qmp.closed;
      while (isAlive(this.process.pid, this.process.startTime)) await Bun.sleep(POLL_MS);
    }
    this.qmp.close();
    await this.cleanUp();
    return { code, stderrTail: this.stderr(), consoleTail: "" };
  }
}

export function tailOf(path: string): string {
  try {
    return readFileSync(path, "utf8").slice(-TAIL);
  } catch {
    return "";
  }
}
