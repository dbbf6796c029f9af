/**
 * Does a hot sandbox answer? Its agent is asked now and then, and at once when a call into it failed. One that does not is
 * called unresponsive until it answers again; with `--on-unresponsive restart` it is booted from its disk.
 */
import { readConsole } from "../engine/console.ts";
import { isVmmSilent, type Vm } from "../engine/engine.ts";
import { isSilence } from "../guest/errors.ts";
import { type Guest, GuestError } from "../guest/guest.ts";
import { AppError } from "../lib/errors.ts";
import type { SandboxDeps } from "./deps.ts";
import { initView } from "./init.ts";
import { restartIt } from "./refusals.ts";
import type { SandboxRow } from "./rows.ts";
import type { InitView, Thermal } from "./service.ts";

/** Time for an answer: a guest under load on a busy host is slow, not gone, ms. */
const ANSWER_MS = 10_000;
/** The same when a request waits for it, ms. */
const HURRY_MS = 3000;
/** A script that was given at create is asked for this often while it runs, ms. */
const INIT_MS = [300, 1000, 2000, 5000];
/** An automatic restart waits so long since the one before, by how many there were lately, ms. */
const BACK_OFF_MS = [0, 60_000, 300_000, 900_000, 3_600_000];
/** Of the console, at each look, bytes. */
const LOOK_AT = 4096;
/** So long without one, and they are forgotten, ms. */
const FORGET_MS = 6 * 3_600_000;

/** What is looked at, and asked to restart; an Actor. */
export interface Watched {
  readonly gone: boolean;
  readonly row: SandboxRow;
  readonly thermal: Thermal;
  readonly vm: Vm | null;
  readonly guest: Guest | null;
  /** Hot, and no transition away from it is wanted. */
  isHot(): boolean;
  /** Of its files. */
  readonly dir: string;
  readonly deps: SandboxDeps;
  restart(options: { force: boolean; reason: string }): Promise<void>;
}

export class Health {
  private timer: ReturnType<typeof setTimeout> | null = null;
  private restarts = 0;
  private restartedAt = 0;
  private initLooks = 0;
  /** Process that the guest's kernel killed last. */
  private victim = "";

  constructor(private readonly actor: Watched) {}

  get sick(): boolean {
    return this.actor.row.unresponsive_since !== "";
  }

  clear(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
  }

  /** Called whenever the thermal state changes: only a hot guest is looked at. */
  arm(): void {
    this.clear();
    const { actor } = this;
    if (actor.gone || actor.thermal !== "hot" || !actor.vm) return;
    const init = this.initRuns() ? INIT_MS[Math.min(this.initLooks, INIT_MS.length - 1)]! : Infinity;
    const every = actor.deps.config.probeEveryS * 1000 || Infinity;
    if (Math.min(init, every) === Infinity) return;
    this.timer = setTimeout(() => void this.tick(), Math.min(init, every));
    this.timer.unref?.();
  }

  /** A call into the guest failed: looks at once. */
  suspect(): void {
    if (this.actor.thermal === "hot" && this.actor.vm && !this.sick) void this.tick();
  }

  /** Its kernel ended a process for want of memory: the command that dies of it only says 137. Told once for each. */
  private lookForOom(): void {
    const { row, deps, dir } = this.actor;
    const text = readConsole(dir, LOOK_AT);
    const last = [...text.matchAll(/[Oo]ut of memory: Killed process (\d+) \(([^)\s]{1,64})\)/g)].at(-1);
    if (!last || last[1] === this.victim) return;
    this.victim = last[1]!;
    deps.log.info({ sandbox: row.id, victim: last[2] }, "out of memory in the guest");
    this.event("sandbox.guest_oom", { process: last[2], memory_mb: row.memory_mb });
  }

  /** For a request that found the sandbox unresponsive. Throws unless it answers by now. */
  async insist(): Promise<void> {
    if (this.sick && !(await this.look(HURRY_MS))) throw this.error();
  }

  /** A new daemon has taken it over: a VMM that answers again is well, an agent is asked. */
  adopted(): void {
    if (this.actor.row.unresponsive_why === VMM_SILENT) this.well();
    else if (this.sick) void this.tick();
  }

  /** What a transition failed with, as what it means; a sandbox that did not answer is noted. */
  diagnose(error: unknown): unknown {
    if (isVmmSilent(error)) this.ill(VMM_SILENT);
    else if (isSilence(error)) {
      if (!this.actor.vm) return error;
      this.ill(AGENT);
    } else return error;
    return this.error(error);
  }

  error(cause?: unknown): AppError {
    const { row } = this.actor;
    return new AppError(
      "guest_unresponsive",
      `sandbox "${row.name}" is unresponsive: ${row.unresponsive_why} (since ${row.unresponsive_since})`,
      { remedy: restartIt(row.name), cause },
    );
  }

  private async tick(): Promise<void> {
    const { actor } = this;
    this.clear();
    if (!actor.isHot()) return this.arm(); // in the middle of a transition, which judges by itself
    const again = this.sick;
    this.lookForOom();
    const well = await this.look(ANSWER_MS);
    if (!well && again && actor.row.on_unresponsive === "restart") this.restart();
    this.arm();
  }

  /** Asks the agent. Notes what it says, or that it says nothing, on this or any other connection. */
  private async look(ms: number): Promise<boolean> {
    const { actor } = this;
    const { vm, guest } = actor;
    if (!vm || !guest || !actor.isHot()) return true;
    try {
      const { init } = await guest.activity(ms);
      this.well();
      if (init) this.initSaid(initView(init));
      return true;
    } catch (error) {
      const state = await vm.state().catch(() => "silent");
      // What was paused, stopped or replaced meanwhile, or stands still for want of disk space, says nothing about health.
      const same = actor.vm === vm && actor.guest === guest && actor.isHot();
      if (!same || state === "exited" || state === "paused") return true;
      const refused = error instanceof GuestError && !isSilence(error);
      if (refused || guest.quietMs() < ms) {
        this.well();
        return true;
      }
      this.ill(state === "silent" ? VMM_SILENT : AGENT);
      return false;
    }
  }

  /** It has answered. */
  well(): void {
    const { row, deps } = this.actor;
    if (!this.sick) return;
    const since = row.unresponsive_since;
    deps.rows.update(row, { unresponsive_since: "", unresponsive_why: "" });
    deps.log.info({ sandbox: row.id, since }, "it answers again");
    this.event("sandbox.responsive", { since });
  }

  ill(why: string): void {
    const { row, deps } = this.actor;
    if (this.sick || this.actor.gone) return;
    deps.rows.update(row, { unresponsive_since: new Date().toISOString(), unresponsive_why: why });
    deps.log.warn({ sandbox: row.id, why }, "unresponsive");
    this.event("sandbox.unresponsive", { why, on_unresponsive: row.on_unresponsive });
  }

  private restart(): void {
    const { actor } = this;
    const since = Date.now() - this.restartedAt;
    if (since > FORGET_MS) this.restarts = 0;
    if (since < BACK_OFF_MS[Math.min(this.restarts, BACK_OFF_MS.length - 1)]!) return;
    this.restarts++;
    this.restartedAt = Date.now();
    actor.deps.log.warn({ sandbox: actor.row.id, restarts: this.restarts }, "unresponsive: restarting it");
    actor
      .restart({ force: true, reason: "unresponsive" })
      .catch((err) => actor.deps.log.error({ sandbox: actor.row.id, err }, "automatic restart failed"));
  }

  /** A script was given, and its end is not known yet. */
  private initRuns(): boolean {
    const { init, init_status: told } = this.actor.row;
    return init !== "" && (told === "" || (JSON.parse(told) as InitView).status === "running");
  }

  private initSaid(init: InitView): void {
    const { row, deps } = this.actor;
    this.initLooks++;
    const told = JSON.stringify(init);
    if (told === row.init_status || !this.initRuns()) return;
    deps.rows.update(row, { init_status: told });
    if (init.status === "running") return;
    const failed = init.status === "failed" || init.exit_code !== 0;
    deps.log[failed ? "warn" : "info"]({ sandbox: row.id, init }, "init ended");
    this.event(failed ? "sandbox.init_failed" : "sandbox.init_finished", { ...init });
  }

  private event(type: string, meta: Record<string, unknown>): void {
    const { row, deps } = this.actor;
    const subject = { userId: row.created_by, sandboxId: row.id };
    deps.events.record({ type, ...subject, meta: { name: row.name, ...meta } });
  }
}

export const VMM_SILENT = "its VMM does not answer";
const AGENT = "its agent does not answer";
