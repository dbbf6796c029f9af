/** A live QEMU process. */
import {
  EngineError,
  type ExitCause,
  type Vm,
  type VmExit,
  type VmmProcess,
  type VmSpec,
  type VmState,
} from "../engine.ts";
import type { Cgroups } from "../host/cgroup.ts";
import { killedForMemory } from "../host/oom.ts";
import { HostProcess } from "../host/process.ts";
import { explain, lastWords } from "../host/words.ts";
import type { Qmp, QmpEvent } from "./qmp.ts";
import { saveState } from "./state.ts";

export class QemuVm implements Vm {
  readonly exited: Promise<VmExit>;
  outOfSpace = false;
  private left = false;
  /** What the guest did to itself; its process is ended by us. */
  private cause: ExitCause | null = null;
  /** We killed it: nobody asks why it ended. */
  private unwanted = false;
  private readonly host: HostProcess;

  constructor(
    readonly spec: VmSpec,
    readonly process: VmmProcess,
    /** The engine loads the device state through it. */
    readonly qmp: Qmp,
    private readonly cgroups: Cgroups,
    private readonly cleanUp: () => Promise<void>,
    /** Exit code of our own child; absent for an adopted process. */
    childExit?: Promise<number | null>,
  ) {
    this.host = new HostProcess(process);
    this.exited = this.watch(childExit);
    qmp.onEvent((event) => this.onEvent(event));
  }

  async state(): Promise<VmState> {
    if (this.cause || !this.host.alive()) return "exited";
    try {
      const { running, status } = await this.qmp.query("query-status");
      // An event that nobody heard: the guest ended while no daemon was there. How, its console tells.
      if (status === "shutdown") this.ended("reset");
      if (status === "internal-error") this.ended("crashed");
      if (this.cause || !this.host.alive()) return "exited";
      if (typeof running !== "boolean")
        throw new EngineError("query-status: the VMM answers nonsense", "", {}, "nonsense");
      this.outOfSpace = status === "io-error";
      return running ? "running" : "paused";
    } catch (error) {
      if (!this.host.alive()) return "exited";
      throw error;
    }
  }

  async pause(): Promise<void> {
    await this.qmp.call("stop");
  }

  async resume(): Promise<void> {
    if (this.cause) throw new EngineError("the VM ended", "", {}, "gone");
    this.outOfSpace = false;
    await this.qmp.call("cont");
  }

  saveState(path: string): Promise<void> {
    return saveState(this.qmp, this.spec.dir, { pid: this.process.pid, uid: this.spec.uid }, path);
  }

  limitCpus(cpus: number): Promise<void> {
    return this.cgroups.limitCpus(this.spec.id, cpus);
  }

  async resizeDrive(id: string, bytes: number): Promise<void> {
    await this.activateDrives();
    await this.qmp.call("block_resize", { device: id, size: bytes });
  }

  /**
   * A machine that was loaded and has not run leaves its drives to whoever saved it, from QEMU 10 on; before that, loading took
   * them, and there is no such command.
   */
  private async activateDrives(): Promise<void> {
    await this.qmp.call("blockdev-set-active", { active: true }).catch((error) => {
      if (!(error instanceof EngineError && error.why === "unknown")) throw error;
    });
  }

  leave(): void {
    this.left = true;
    this.qmp.close();
  }

  async kill(): Promise<void> {
    this.unwanted = true;
    await this.host.end(this.exited);
  }

  cpuMs(): number {
    return this.host.cpuMs();
  }

  memory() {
    return this.host.memory();
  }

  /** Turns a failure into an EngineError that carries what VMM and guest said. */
  explain(cause: unknown): EngineError {
    return explain(this.spec.dir, cause);
  }

  /** The machine is over: -no-shutdown leaves its VMM to us. */
  private onEvent({ event, data }: QmpEvent): void {
    if (event === "SHUTDOWN" && data?.guest === true && !this.left)
      this.ended(data.reason === "guest-shutdown" ? "poweroff" : "reset");
    if (event === "BLOCK_IO_ERROR" && data?.action === "stop") this.outOfSpace = true;
  }

  private ended(cause: ExitCause): void {
    this.cause ??= cause;
    this.host.signal();
  }

  private wasKilledForMemory(): boolean {
    return !this.unwanted && killedForMemory(this.process.pid, this.process.startTime);
  }

  private async watch(childExit: Promise<number | null> | undefined): Promise<VmExit> {
    const uncontrolled = this.host.endUnled(this.qmp.closed);
    let code: number | null = null;
    if (childExit) code = await childExit;
    else {
      await uncontrolled;
      await this.host.gone(() => this.left);
    }
    this.qmp.close();
    await this.cleanUp();
    const cause = this.cause ?? (this.wasKilledForMemory() ? "oom" : "crashed");
    return { cause, code, ...lastWords(this.spec.dir) };
  }
}
