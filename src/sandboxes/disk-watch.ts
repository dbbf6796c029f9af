/**
 * Acts before the disk is full: below the low watermark the machine whose disk grows fastest stands still, until there is
 * room again. The others go on. A machine whose write found no space at all has stopped by itself (the VMM repeats the write
 * when it goes on) and is treated alike.
 */
import { statSync } from "node:fs";
import type { Logger } from "pino";
import { availableBytes, Ballast, type Levels, levelsOf } from "../storage/watermark.ts";
import type { Actor } from "./actor.ts";
import type { SandboxDeps } from "./deps.ts";
import type { Registry } from "./registry.ts";
import { memoryBytes, vmSpec } from "./vm-spec.ts";

/** Looked at this often while a machine runs, ms; where none does nothing grows fast, and every fifth look is enough. */
const PERIOD_MS = 200;
/** Disks are looked at while less than so many times the low watermark is free. */
const ATTENTION = 4;
/** Growth is what was added lately, in so many looks. */
const LOOKS = 5;
/** Less is not growth, bytes: journals, logs. */
const SOME = 4 << 20;
/** Room without which nobody's small writes go on: the ballast is given up, bytes. */
const NOTHING = 64 << 20;
/** Memory files are compared with their promise every so many looks. */
const MEMORY_EVERY = 10;

export interface DiskWatchOptions {
  dataDir: string;
  registry: Registry;
  totalBytes: number;
  log: Logger;
  events: SandboxDeps["events"];
}

export class DiskWatch {
  readonly levels: Levels;
  private readonly ballast: Ballast;
  private readonly sizes = new Map<Actor, number[]>();
  private timer: ReturnType<typeof setInterval> | null = null;
  private busy = false;
  private looks = 0;
  /** Looks since a guest stands still at a disk without any room. */
  private met = 0;

  constructor(private readonly options: DiskWatchOptions) {
    this.levels = levelsOf(options.totalBytes);
    this.ballast = new Ballast(options.dataDir, Math.floor(this.levels.low / 2));
  }

  start(): void {
    this.timer = setInterval(() => {
      if (this.busy) return;
      this.busy = true;
      this.look()
        .catch((err) => this.options.log.error({ err }, "watch of the disk failed"))
        .finally(() => {
          this.busy = false;
        });
    }, PERIOD_MS);
    this.timer.unref();
  }

  stop(): void {
    if (this.timer) clearInterval(this.timer);
  }

  private async look(): Promise<void> {
    const { levels } = this;
    const turn = this.looks++;
    const actors = [...this.options.registry.all()].filter((actor) => actor.vm && !actor.gone);
    if (actors.length === 0 && turn % LOOKS > 0) return;
    const free = availableBytes(this.options.dataDir);
    if (turn % MEMORY_EVERY === 0) this.endLiars();
    for (const actor of actors)
      if (actor.vm?.outOfSpace && !actor.stoppedFor) await this.hold(actor, free, 2 * NOTHING);
    await this.goOn(actors, free);
    if (free > levels.high + this.levels.low) await this.ballast.take();
    if (free > levels.low * ATTENTION) {
      this.sizes.clear();
      return;
    }
    for (const actor of actors) this.note(actor);
    if (free < levels.low) {
      const grower = this.largest(actors);
      if (grower) await this.hold(grower, free, levels.high);
    }
    // Not before a guest's write met the end, and a second later: by then whoever filled the disk has met it too.
    const met = actors.some((actor) => actor.stoppedFor && actor.stoppedFor.until < levels.low);
    this.met = met && free < NOTHING ? this.met + 1 : 0;
    if (this.met > LOOKS && this.ballast.held()) {
      this.options.log.warn({ free }, "the disk is full: the ballast is given up");
      await this.ballast.release();
    }
  }

  private note(actor: Actor): void {
    const blocks = statSync(vmSpec(actor).drives[0]!.path, { throwIfNoEntry: false })?.blocks;
    if (blocks === undefined) return;
    const sizes = this.sizes.get(actor) ?? [];
    sizes.push(blocks * 512);
    if (sizes.length > LOOKS) sizes.shift();
    this.sizes.set(actor, sizes);
  }

  private largest(actors: Actor[]): Actor | null {
    let most = SOME;
    let found: Actor | null = null;
    for (const actor of actors) {
      const sizes = this.sizes.get(actor) ?? [];
      const grown = (sizes.at(-1) ?? 0) - (sizes[0] ?? 0);
      if (actor.stoppedFor || grown < most) continue;
      most = grown;
      found = actor;
    }
    return found;
  }

  /**
   * In the actor's queue, unless a transition runs there: then at the next look. It goes on above `until`: the one that fills
   * the disk when there is room again, one that merely met the end as soon as its write may find its place.
   */
  private async hold(actor: Actor, free: number, until: number): Promise<void> {
    if (!actor.isQuiet()) return;
    await actor.run(() => actor.standStill(until));
    this.sizes.delete(actor);
    if (!actor.stoppedFor) return;
    const { log, events } = this.options;
    log.warn({ sandbox: actor.row.id, free }, "stopped: the server's disk is nearly full");
    events.record({
      type: "sandbox.disk_full",
      userId: actor.row.created_by,
      sandboxId: actor.row.id,
      meta: { name: actor.row.name, free_bytes: free },
    });
  }

  /** The one that has waited longest; the next at the next look, if there is still room. */
  private async goOn(actors: Actor[], free: number): Promise<void> {
    const [first] = actors
      .filter((actor) => actor.stoppedFor && free > actor.stoppedFor.until && actor.isQuiet())
      .sort((a, b) => (a.stoppedFor!.since < b.stoppedFor!.since ? -1 : 1));
    if (!first) return;
    await first.run(() => first.goOnAgain());
    if (first.stoppedFor) return;
    this.options.log.info({ sandbox: first.row.id }, "goes on: there is room on the disk");
    this.options.events.record({
      type: "sandbox.disk_room",
      userId: first.row.created_by,
      sandboxId: first.row.id,
      meta: { name: first.row.name },
    });
  }

  /** A guest cannot make its memory file larger than its memory; a VMM that does is not ours any more. */
  private endLiars(): void {
    for (const actor of this.options.registry.all()) {
      if (!actor.vm || actor.gone) continue;
      const facts = statSync(vmSpec(actor).memoryPath, { throwIfNoEntry: false });
      const promised = memoryBytes(actor.row);
      // Pages that were shared are there twice until their copy is written back.
      if (!facts || (facts.size <= promised && facts.blocks * 512 <= 2 * promised)) continue;
      this.options.log.error({ sandbox: actor.row.id }, "a VMM made its memory file larger: it is ended");
      void actor.vm.kill().catch(() => {});
    }
  }
}
