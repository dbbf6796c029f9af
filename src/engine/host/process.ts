/** A VMM as a process of the host: one of that pid and start time, and never another one that got the pid later. */
import { EngineError, type VmExit, type VmmProcess } from "../engine.ts";
import { isAlive, memoryOf, procStat } from "./proc.ts";

/** A process that SIGKILL does not end within this hangs in the kernel, ms. */
const KILL_MS = 20_000;
const TICKS_PER_SECOND = 100;
/** How often the end of a process that is not our child is looked for: once its channel closed, and when we let go of it, ms. */
const POLL_MS = 5;
const LEFT_POLL_MS = 1000;
/** How long a VMM may live without its control channel, ms. */
const LAST_MS = 2000;
/** For its keeper to write down what came last, where we do not see the keeper's end, ms. */
const SETTLE_MS = 50;

export class HostProcess {
  constructor(readonly identity: VmmProcess) {}

  alive(): boolean {
    return isAlive(this.identity.pid, this.identity.startTime);
  }

  /** SIGKILL, if it lives. */
  signal(): void {
    if (!this.alive()) return;
    try {
      process.kill(this.identity.pid, "SIGKILL");
    } catch {}
  }

  /** SIGKILL, then waits for `exited`. @throws EngineError when it does not come. */
  async end(exited: Promise<VmExit>): Promise<void> {
    this.signal();
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new EngineError(`process ${this.identity.pid} does not end`)),
      KILL_MS,
    );
    await Promise.race([exited, late.promise]).finally(() => clearTimeout(timer));
  }

  /**
   * When its control channel closed, true when that was the VMM's doing: it closes a moment before the process is gone. A VMM
   * that runs on without one can neither be paused nor stopped nor saved: it is hostile or broken, and is killed.
   */
  async endUnled(closed: Promise<boolean>): Promise<void> {
    if (!(await closed)) return;
    for (const end = Date.now() + LAST_MS; this.alive() && Date.now() < end; ) await Bun.sleep(POLL_MS);
    this.signal();
  }

  /** Resolves when it is gone, for one that is not our child. `left`: we let go of it, and need not know at once. */
  async gone(left: () => boolean): Promise<void> {
    while (this.alive()) await Bun.sleep(left() ? LEFT_POLL_MS : POLL_MS);
    await Bun.sleep(SETTLE_MS);
  }

  /** Kills it until it is gone. */
  async endSurely(): Promise<void> {
    while (this.alive()) {
      this.signal();
      await Bun.sleep(POLL_MS);
    }
  }

  /** CPU time so far, ms; 0 when it is gone. */
  cpuMs(): number {
    const stat = procStat(this.identity.pid);
    return stat?.startTime === this.identity.startTime ? (stat.cpuTicks * 1000) / TICKS_PER_SECOND : 0;
  }

  memory() {
    return memoryOf(this.identity.pid);
  }
}
