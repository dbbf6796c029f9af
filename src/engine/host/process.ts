/** A VMM as a process of the host: one of that pid and start time, and never another one that got the pid later. */
import { EngineError, type VmExit, type VmmProcess } from "../engine.ts";
import { isAlive, memoryOf, procStat } from "./proc.ts";

/** A process that SIGKILL does not end within this hangs in the kernel, ms. */
const KILL_MS = 20_000;
const TICKS_PER_SECOND = 100;

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

  /** CPU time so far, ms; 0 when it is gone. */
  cpuMs(): number {
    const stat = procStat(this.identity.pid);
    return stat?.startTime === this.identity.startTime ? (stat.cpuTicks * 1000) / TICKS_PER_SECOND : 0;
  }

  memory() {
    return memoryOf(this.identity.pid);
  }
}
