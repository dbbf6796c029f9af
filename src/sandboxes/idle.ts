/** Decides when one sandbox has been idle long enough. A timer each: no scan that a slow VM could block. */
import type { Logger } from "pino";
import type { Vm } from "../engine/engine.ts";
import type { Guest } from "../guest/guest.ts";
import type { SandboxRow } from "./rows.ts";
import type { GuestWork, Thermal } from "./service.ts";

/** setTimeout cannot wait longer, ms. */
const MAX_TIMER = 2 ** 31 - 1;
/** More CPU than this share of one core over the idle time means the guest works. */
const BUSY_SHARE = 0.15;
/** Who looks at a sandbox does not wait longer for its guest, ms. */
const LOOK_MS = 2000;
/** After so many unanswered activity calls in a row the sandbox is paused all the same: silence must lead somewhere. */
const MAX_SILENCE = 3;

/** What the timer looks at and asks for; an Actor. */
export interface Idling {
  readonly gone: boolean;
  readonly row: SandboxRow;
  readonly thermal: Thermal;
  readonly vm: Vm | null;
  readonly guest: Guest | null;
  readonly deps: { log: Logger };
  lastActivity: number;
  since: number;
  isFree(): boolean;
  cool(to: "warm" | "cold", reason: string): Promise<boolean>;
}

export class IdleTimer {
  private timer: ReturnType<typeof setTimeout> | null = null;
  private silence = 0;
  private cpu = { at: 0, ms: 0 };

  constructor(private readonly actor: Idling) {}

  clear(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
  }

  /** Starts the countdown that fits the present state; called whenever the state or the leases change. */
  arm(): void {
    this.clear();
    const { actor } = this;
    if (actor.gone || actor.row.keep_hot === 1 || !actor.isFree()) return;
    if (actor.thermal === "hot" && actor.row.warm_after_s > 0) {
      this.cpu = { at: Date.now(), ms: actor.vm?.cpuMs() ?? 0 };
      this.wait(actor.row.warm_after_s * 1000 - (Date.now() - actor.lastActivity), () => this.checkHot());
    } else if (actor.thermal === "warm" && actor.row.cold_after_s > 0) {
      this.wait(actor.row.cold_after_s * 1000 - (Date.now() - actor.since), () => this.toCold());
    }
  }

  private wait(ms: number, then: () => Promise<void>): void {
    this.timer = setTimeout(
      () => {
        this.timer = null;
        then().catch((error) => {
          this.actor.deps.log.warn({ sandbox: this.actor.row.id, err: error }, "idle transition failed");
          // Try again later; a failed stop leaves the sandbox as it was.
          this.actor.lastActivity = Date.now();
          this.actor.since = Date.now();
          this.arm();
        });
      },
      Math.min(Math.max(ms, 50), MAX_TIMER),
    );
    this.timer.unref?.();
  }

  private async checkHot(): Promise<void> {
    const { actor } = this;
    if (!actor.isFree() || actor.thermal !== "hot") return;
    if (await this.guestWorks()) {
      actor.lastActivity = Date.now();
      this.arm();
      return;
    }
    await actor.cool("warm", "idle");
  }

  /** Asks the agent and looks at the CPU the VMM used since the countdown began. */
  private async guestWorks(): Promise<boolean> {
    const { vm, guest, row } = this.actor;
    if (!vm || !guest) return false;
    const wallMs = Date.now() - this.cpu.at;
    const share = wallMs > 0 ? (vm.cpuMs() - this.cpu.ms) / wallMs : 0;
    if (share > BUSY_SHARE) return true;
    try {
      const activity = await guest.activity(5000);
      this.silence = 0;
      return (
        activity.execs > 0 ||
        activity.detached > 0 ||
        activity.initRunning ||
        activity.idleMs < Math.min(row.warm_after_s * 1000 - 1000, wallMs - 1000)
      );
    } catch {
      this.silence++;
      return this.silence < MAX_SILENCE;
    }
  }

  /** What the guest does, for people; null when it is not hot or does not say. Changes nothing and counts as no activity. */
  async look(): Promise<GuestWork | null> {
    const { vm, guest, thermal } = this.actor;
    if (thermal !== "hot" || !vm || !guest) return null;
    const wallMs = Date.now() - this.cpu.at;
    const share = this.cpu.at > 0 && wallMs >= 1000 ? (vm.cpuMs() - this.cpu.ms) / wallMs : null;
    try {
      const { execs, detached, initRunning } = await guest.activity(LOOK_MS);
      const busy = execs > 0 || detached > 0 || initRunning || (share ?? 0) > BUSY_SHARE;
      const cpu_percent = share === null ? null : Math.max(0, Math.round(share * 100));
      return { execs, detached, init_running: initRunning, cpu_percent, busy };
    } catch {
      return null;
    }
  }

  private async toCold(): Promise<void> {
    await this.actor.cool("cold", "idle");
  }
}
