/**
 * One sandbox at run time: a serial queue of transitions, the leases that keep it hot, the timers that let it cool down.
 * No transition runs outside the queue; `await` is a yield point, so every decision is checked again inside it.
 */

import type { Vm, VmExit } from "../engine/engine.ts";
import type { Guest } from "../guest/guest.ts";
import { orAbort } from "../lib/abort.ts";
import { AppError } from "../lib/errors.ts";
import { refsOf } from "../secrets/reference.ts";
import type { Reservation } from "../storage/storage.ts";
import { Comeback } from "./comeback.ts";
import type { SandboxDeps } from "./deps.ts";
import { endOf, VmEndedError } from "./end.ts";
import { Health } from "./health.ts";
import { IdleTimer } from "./idle.ts";
import { sandboxNotFound, stoppedForDisk } from "./refusals.ts";
import type { SandboxRow } from "./rows.ts";
import { SecretFiles } from "./secret-files.ts";
import type { GuestLease, Thermal } from "./service.ts";

/** A machine that is there, and its agent. */
export interface Running {
  vm: Vm;
  guest: Guest;
}

/** What an actor does to its machine; `transitions/` implements it, the service hands it over. */
export interface Transitions {
  wake(actor: Actor): Promise<void>;
  pause(actor: Actor, machine: Running, reason: string): Promise<void>;
  stop(actor: Actor, machine: Running, reason: string): Promise<void>;
  crashed(actor: Actor, exit: VmExit): Promise<void>;
  restart(actor: Actor, options: { force: boolean; reason: string }): Promise<void>;
}

interface Held {
  kind: string;
  since: string;
  revoke: AbortController;
}

/** How long a stop lets running requests finish before it cuts them, ms. */
const DRAIN_MS = 1000;

export class Actor {
  vm: Vm | null = null;
  guest: Guest | null = null;
  thermal: Thermal = "cold";
  /** The agent has not yet acknowledged its identity since the last restore: do it before the next request. */
  needsConfigure = false;
  /** Why new leases are refused, once the sandbox is going away. */
  gone = false;
  diskReservation: Reservation | null = null;
  /** The vCPUs stand still for want of disk space: new requests are refused, and the watch of the disk lets them run again. */
  stoppedFor: { reason: "disk_full"; since: string; until: number } | null = null;
  lastActivity = Date.now();
  /** Background sync of the last stop; resolved when the row says durable or the attempt failed. */
  durable: Promise<void> = Promise.resolve();
  /** When the present thermal state began, ms since the epoch. */
  since = Date.now();

  private queued = 0;
  private tail: Promise<unknown> = Promise.resolve();
  private readonly held = new Set<Held>();
  private pending = 0;
  /** 1 while something of the queue runs. */
  private busy = 0;
  /** > 0 while a transition away from hot is wanted or runs: new leases queue behind it. */
  private leaving = 0;
  private waking: Promise<void> | null = null;
  private released: (() => void)[] = [];
  readonly idle: IdleTimer;
  readonly health: Health;
  readonly comeback = new Comeback();
  readonly secretFiles: SecretFiles;
  /** When the VM was attached, ms since the epoch. */
  startedAt = 0;

  constructor(
    readonly deps: SandboxDeps,
    readonly row: SandboxRow,
    private readonly transitions: Transitions,
  ) {
    this.idle = new IdleTimer(this);
    this.health = new Health(this);
    this.secretFiles = new SecretFiles(this);
  }

  get dir(): string {
    return `${this.deps.config.dataDir}/sandboxes/${this.row.engine_id}`;
  }

  /** Runs `work` after everything queued before it. */
  run<T>(work: () => Promise<T>): Promise<T> {
    this.queued++;
    const result = this.tail.then(async () => {
      this.busy++;
      try {
        return await work();
      } finally {
        this.busy--;
        this.queued--;
      }
    });
    this.tail = result.catch(() => {});
    return result;
  }

  /** Runs `work` with a place among the machines that come up. */
  comingUp<T>(work: () => Promise<T>): Promise<T> {
    return this.deps.wakes.with(work, undefined, this.row.created_by);
  }

  isHot(): boolean {
    return this.thermal === "hot" && this.leaving === 0 && this.vm !== null && !this.needsConfigure;
  }

  /**
   * The machine of a sandbox that is not cold. Throws when there is none all the same: a new daemon could not take it over
   * (guest_unresponsive), or it ended a moment ago and its end is next in the queue (unavailable).
   */
  running(): Running {
    const { vm, guest } = this;
    if (vm && guest) return { vm, guest };
    if (this.health.sick) throw this.health.error();
    throw new AppError("unavailable", `the machine of sandbox "${this.row.name}" just ended`, {
      retryAfter: 1,
      remedy: `ask again: bhatti inspect ${this.row.name} says why`,
    });
  }

  /** True when nobody holds or waits for the sandbox. */
  isFree(): boolean {
    return this.held.size === 0 && this.pending === 0;
  }

  /** True when no transition runs or waits: one that is started now runs at once. */
  isQuiet(): boolean {
    return this.queued === 0;
  }

  leases(): { kind: string; since: string }[] {
    return [...this.held].map(({ kind, since }) => ({ kind, since }));
  }

  /** Wakes if needed (joining a wake in progress) and holds the sandbox hot. A caller that leaves only drops its wish. */
  async acquire(kind: string, signal?: AbortSignal): Promise<GuestLease> {
    const from = this.thermal;
    this.pending++;
    try {
      do {
        while (!this.isHot()) {
          this.assertPresent();
          // It runs and could not be taken over yet: nobody waits for that in silence.
          if (this.health.sick && this.thermal === "hot" && !this.vm) throw this.health.error();
          this.assertMayRun();
          await orAbort(this.ensureHot(), signal);
        }
        await this.health.insist();
        await this.secretFiles.fresh();
        this.assertPresent();
      } while (!this.isHot());
      return this.grant(kind, from);
    } finally {
      this.pending--;
      this.idle.arm();
    }
  }

  /** Files of secrets that have changed, if it is hot: others have them when they wake. Throws nothing: the next request brings them. */
  async bringSecrets(): Promise<void> {
    if (!this.isHot() || !this.secretFiles.due) return;
    try {
      (await this.acquire("secrets")).release();
    } catch (err) {
      this.deps.log.warn(
        { sandbox: this.row.id, err },
        "a sandbox has an older secret until its next request",
      );
    }
  }

  /** Single flight: every caller joins the same wake. */
  ensureHot(): Promise<void> {
    this.waking ??= this.run(async () => {
      this.assertPresent();
      this.assertMayRun();
      if (this.thermal !== "hot" || this.needsConfigure || !this.vm)
        await this.diagnosed(() => this.transitions.wake(this));
    }).finally(() => {
      this.waking = null;
      this.idle.arm();
    });
    return this.waking;
  }

  /** To cold on somebody's wish: running requests get a moment, then are cut. */
  async stop(reason: string, drainMs = DRAIN_MS): Promise<void> {
    this.leaving++;
    try {
      await this.run(async () => {
        this.assertPresent();
        if (this.thermal === "cold") return;
        await this.drain(drainMs);
        await this.diagnosed(() => this.transitions.stop(this, this.running(), reason));
      });
    } finally {
      this.leaving--;
      this.idle.arm();
    }
  }

  /** To warm or cold because nobody needs it; gives way to any lease. Returns whether it happened. */
  cool(to: "warm" | "cold", reason: string): Promise<boolean> {
    return this.run(async () => {
      const wrongState = to === "warm" ? this.thermal !== "hot" : this.thermal === "cold";
      if (this.gone || wrongState || !this.isFree() || this.row.keep_hot === 1) return false;
      this.leaving++;
      try {
        const cool = to === "warm" ? this.transitions.pause : this.transitions.stop;
        await this.diagnosed(() => cool(this, this.running(), reason));
        return true;
      } finally {
        this.leaving--;
        this.idle.arm();
      }
    });
  }

  /** Runs a transition that needs the sandbox for itself without ending leases (checkpoint). */
  async exclusive<T>(work: () => Promise<T>): Promise<T> {
    this.pending++;
    try {
      return await this.run(async () => {
        this.assertPresent();
        this.assertMayRun();
        return this.diagnosed(work);
      });
    } finally {
      this.pending--;
      this.idle.arm();
    }
  }

  /** Ends what runs and gives the sandbox other files (rollback); new leases wait until it is done. */
  async replace(work: () => Promise<void>): Promise<void> {
    this.leaving++;
    try {
      await this.run(async () => {
        this.assertPresent();
        await this.drain(DRAIN_MS);
        await this.diagnosed(work);
      });
    } finally {
      this.leaving--;
      this.idle.arm();
    }
  }

  /** Boots it from its disk. `force`: also out of a transition that hangs. */
  async restart(options: { force: boolean; reason: string }): Promise<void> {
    if (options.force) this.interrupt();
    await this.replace(() => this.transitions.restart(this, options));
  }

  /** A transition in progress fails at once instead of at its deadline: its VM is taken away. */
  private interrupt(): void {
    if (this.busy === 0) return;
    if (this.vm) void this.vm.kill().catch(() => {});
    // A VMM that a new daemon tries to take over.
    else if (this.row.pid) void this.deps.engine.killUids([this.row.uid]).catch(() => {});
  }

  /** Failures of transitions as what they mean for people. */
  private async diagnosed<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.health.diagnose(error);
    }
  }

  /** Cuts every lease and refuses new ones; for destroy. */
  async leave<T>(work: () => Promise<T>): Promise<T> {
    this.gone = true;
    this.leaving++;
    this.idle.clear();
    this.health.clear();
    this.comeback.cancel();
    this.interrupt();
    for (const lease of this.held) lease.revoke.abort(sandboxNotFound(this.row.name));
    return this.run(work);
  }

  /** Cuts leases after `ms`; inside the queue, while `leaving` is set. */
  async drain(ms: number): Promise<void> {
    await this.untilReleased(ms);
    const stopped = new AppError("not_running", `sandbox "${this.row.name}" was stopped while this ran`, {
      remedy: "the next request wakes it",
    });
    for (const lease of this.held) lease.revoke.abort(stopped);
    await this.untilReleased(1000);
    this.held.clear();
  }

  /** Takes over a live VMM and watches for its end. */
  attach(vm: Vm, thermal: Thermal): void {
    this.vm = vm;
    this.startedAt = Date.now();
    this.comeback.cancel();
    this.enter(thermal);
    void vm.exited.then((exit) => {
      if (this.vm !== vm) return;
      this.vm = null;
      const ended = new AppError(
        "unavailable",
        `sandbox "${this.row.name}" ended during the request: ${endOf(exit).why}`,
        { retryAfter: 1, remedy: "the next request boots it from its disk" },
      );
      for (const lease of this.held) lease.revoke.abort(ended);
      void this.run(() => this.transitions.crashed(this, exit));
    });
  }

  /** The VMM is gone as intended. */
  detach(): void {
    this.stoppedFor = null;
    this.vm = null;
    this.guest?.disconnect();
    this.guest = null;
    this.diskReservation?.release();
    this.diskReservation = null;
    this.deps.memory.release(this.row.id);
    this.enter("cold");
  }

  /** Fires after `ms`, or as soon as the VMM is gone: nobody waits for a dead machine. */
  alive(ms: number): AbortSignal {
    const end = new AbortController();
    const vm = this.vm;
    if (!vm) end.abort(new Error("the VM ended"));
    else void vm.exited.then((exit) => end.abort(new VmEndedError(endOf(exit))));
    return AbortSignal.any([end.signal, AbortSignal.timeout(ms)]);
  }

  enter(thermal: Thermal): void {
    this.thermal = thermal;
    this.since = Date.now();
    this.health.arm();
  }

  private grant(kind: string, from: Thermal): GuestLease {
    const { guest } = this.running();
    const held: Held = { kind, since: new Date().toISOString(), revoke: new AbortController() };
    this.held.add(held);
    this.lastActivity = Date.now();
    return {
      sandboxId: this.row.id,
      guest,
      from,
      revoked: held.revoke.signal,
      secretEnv: () => this.deps.secrets.environment(this.row.created_by, refsOf(this.row.secrets)),
      release: () => {
        if (!this.held.delete(held)) return;
        this.lastActivity = Date.now();
        if (this.held.size === 0) for (const wakeUp of this.released.splice(0)) wakeUp();
        this.idle.arm();
      },
    };
  }

  private untilReleased(ms: number): Promise<void> {
    if (this.held.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.released.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Stops the vCPUs until more than `until` bytes are free; in the queue. What runs in the guest waits, and so do the requests that are under way. */
  async standStill(until: number): Promise<void> {
    if (!this.vm || this.gone) return;
    await this.vm.pause();
    this.stoppedFor = { reason: "disk_full", since: new Date().toISOString(), until };
    this.guest?.standsStill(true);
    this.enter("warm");
  }

  /** The opposite; in the queue. */
  async goOnAgain(): Promise<void> {
    if (!this.vm || this.gone || !this.stoppedFor) return;
    await this.vm.resume();
    this.stoppedFor = null;
    this.guest?.standsStill(false);
    this.enter("hot");
    this.lastActivity = Date.now();
    this.idle.arm();
  }

  private assertMayRun(): void {
    if (this.stoppedFor) throw stoppedForDisk(this.row.name, this.stoppedFor.since);
  }

  private assertPresent(): void {
    if (this.gone) throw sandboxNotFound(this.row.name);
  }
}
