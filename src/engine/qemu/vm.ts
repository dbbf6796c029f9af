/** A live QEMU process. */
import { stat } from "node:fs/promises";
import {
  consoleFile,
  EngineError,
  type ExitCause,
  type Vm,
  type VmExit,
  type VmmProcess,
  type VmSpec,
  type VmState,
  vmmLogFile,
} from "../engine.ts";
import { ringTail } from "../ring.ts";
import type { Cgroups } from "./cgroup.ts";
import { killedForMemory } from "./oom.ts";
import { isAlive, memoryOf, procStat } from "./proc.ts";
import type { Qmp, QmpEvent } from "./qmp.ts";
import { saveState } from "./state.ts";

/** How often the end of a process that is not our child is looked for, once its socket closed, ms. */
const POLL_MS = 5;
const LEFT_POLL_MS = 1000;
/** Bytes: a guest that panics in a circle decides what they are and how often they go into the daemon's log. */
const LAST_WORDS = 16 << 10;
/** How long a VMM may live without its control channel, ms. */
const LAST_MS = 2000;
/** For its keeper to write down what came last, where we do not see the keeper's end, ms. */
const SETTLE_MS = 50;
/** A process that SIGKILL does not end within this hangs in the kernel, ms. */
const KILL_MS = 20_000;

export class QemuVm implements Vm {
  readonly exited: Promise<VmExit>;
  outOfSpace = false;
  private left = false;
  /** What the guest did to itself; its process is ended by us. */
  private cause: ExitCause | null = null;
  /** We killed it: nobody asks why it ended. */
  private unwanted = false;

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
    this.exited = this.watch(childExit);
    qmp.onEvent((event) => this.onEvent(event));
  }

  async state(): Promise<VmState> {
    if (this.cause || !this.alive()) return "exited";
    try {
      const { running, status } = await this.qmp.query("query-status");
      // An event that nobody heard: the guest ended while no daemon was there. How, its console tells.
      if (status === "shutdown") this.ended("reset");
      if (status === "internal-error") this.ended("crashed");
      if (this.cause || !this.alive()) return "exited";
      if (typeof running !== "boolean")
        throw new EngineError("query-status: the VMM answers nonsense", "", {}, "nonsense");
      this.outOfSpace = status === "io-error";
      return running ? "running" : "paused";
    } catch (error) {
      if (!this.alive()) return "exited";
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
    await this.qmp.call("block_resize", { device: id, size: bytes });
  }

  leave(): void {
    this.left = true;
    this.qmp.close();
  }

  async kill(): Promise<void> {
    this.unwanted = true;
    this.signal();
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new EngineError(`process ${this.process.pid} does not end`)),
      KILL_MS,
    );
    await Promise.race([this.exited, late.promise]).finally(() => clearTimeout(timer));
  }

  cpuMs(): number {
    const stat = procStat(this.process.pid);
    const ticksPerSecond = 100;
    return stat?.startTime === this.process.startTime ? (stat.cpuTicks * 1000) / ticksPerSecond : 0;
  }

  memory() {
    return memoryOf(this.process.pid);
  }

  /** Turns a failure into an EngineError that carries what VMM and guest said. */
  explain(cause: unknown): EngineError {
    return explain(this.spec.dir, cause);
  }

  private alive(): boolean {
    return isAlive(this.process.pid, this.process.startTime);
  }

  private signal(): void {
    if (!this.alive()) return;
    try {
      process.kill(this.process.pid, "SIGKILL");
    } catch {}
  }

  /** The machine is over: -no-shutdown leaves its VMM to us. */
  private onEvent({ event, data }: QmpEvent): void {
    if (event === "SHUTDOWN" && data?.guest === true && !this.left)
      this.ended(data.reason === "guest-shutdown" ? "poweroff" : "reset");
    if (event === "BLOCK_IO_ERROR" && data?.action === "stop") this.outOfSpace = true;
  }

  private ended(cause: ExitCause): void {
    this.cause ??= cause;
    this.signal();
  }

  private wasKilledForMemory(): boolean {
    return !this.unwanted && killedForMemory(this.process.pid, this.process.startTime);
  }

  private async watch(childExit: Promise<number | null> | undefined): Promise<VmExit> {
    const uncontrolled = this.qmp.closed.then(async (byVmm) => {
      if (!byVmm) return;
      // The channel closes a moment before the process is gone. A VMM that runs on without one can neither be paused nor
      // stopped nor saved: it is hostile or broken.
      for (const end = Date.now() + LAST_MS; this.alive() && Date.now() < end; ) await Bun.sleep(POLL_MS);
      this.signal();
    });
    let code: number | null = null;
    if (childExit) code = await childExit;
    else {
      await uncontrolled;
      while (this.alive()) await Bun.sleep(this.left ? LEFT_POLL_MS : POLL_MS);
      await Bun.sleep(SETTLE_MS);
    }
    this.qmp.close();
    await this.cleanUp();
    const cause = this.cause ?? (this.wasKilledForMemory() ? "oom" : "crashed");
    return { cause, code, ...lastWords(this.spec.dir) };
  }
}

/**
 * How large a file the VMM may make, bytes: its memory, and its disks with what they may grow to. The host looks at these
 * files; a VMM must not make it see terabytes.
 */
export async function largestFile({ shape, drives }: VmSpec): Promise<number> {
  const sizes = drives.map(({ path, readOnly }) => (readOnly ? 0 : stat(path).then(({ size }) => size)));
  const growth = drives.map(({ maxBytes }) => maxBytes ?? 0);
  return Math.max(shape.memoryMib * 1024 * 1024, ...growth, ...(await Promise.all(sizes)));
}

/** What VMM and guest said last, for logs. */
function lastWords(dir: string): { stderrTail: string; consoleTail: string } {
  const tail = (path: string) => ringTail(path, LAST_WORDS).toString("utf8");
  return { stderrTail: tail(vmmLogFile(dir)), consoleTail: tail(consoleFile(dir)) };
}

/** An EngineError with the message of `cause` and what VMM and guest said. */
export function explain(dir: string, cause: unknown, message?: string): EngineError {
  const { stderrTail, consoleTail } = lastWords(dir);
  const text = message ?? (cause instanceof Error ? cause.message : String(cause));
  return new EngineError(text, `vmm: ${stderrTail}\nconsole: ${consoleTail}`, { cause });
}
