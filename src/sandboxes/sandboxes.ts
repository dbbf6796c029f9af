import { CONSOLE_KEPT, readConsole } from "../engine/console.ts";
import { AppError } from "../lib/errors.ts";
import { refsOf, type SecretRef } from "../secrets/reference.ts";
import { blocks } from "../storage/blocks.ts";
import type { CloneSource } from "../templates/clone-source.ts";
import type { User } from "../users/user.ts";
import type { Actor } from "./actor.ts";
import type { Admitted, Checkpoint, Copies, CopyTarget, RollbackTarget } from "./copies.ts";
import { Creation } from "./creation.ts";
import type { SandboxDeps } from "./deps.ts";
import { patch } from "./patch.ts";
import { Registry, visible } from "./registry.ts";
import type { SandboxRow } from "./rows.ts";
import type {
  Created,
  CreateInput,
  CreateOptions,
  GuestLease,
  PatchInput,
  SandboxDetail,
  Sandboxes,
  SandboxView,
} from "./service.ts";
import { stats } from "./stats.ts";
import { checkpoint } from "./transitions/checkpoint.ts";
import { destroy } from "./transitions/destroy.ts";
import { rollback } from "./transitions/rollback.ts";
import { view } from "./view.ts";

/** How long a change of a secret waits for guests that are slow, ms. */
const SECRETS_MS = 5000;

/** What stays in the reserve of memory that moved out (its device state), bytes. */
const SMALL = 1 << 20;

export class SandboxService implements Sandboxes, Copies {
  readonly registry = new Registry();
  private readonly creation: Creation;

  constructor(readonly deps: SandboxDeps) {
    deps.memory.evict = () => this.evictOne();
    this.creation = new Creation(deps, this.registry, (actor, reason) => this.destroyActor(actor, reason));
  }

  create(user: User, input: CreateInput, options?: CreateOptions): Promise<Created> {
    return this.creation.create(user, input, options);
  }

  /** A new sandbox from a snapshot's or fork's files. All-or-nothing like create. */
  createFrom(user: User, want: Admitted, clone: CloneSource | null, disk: string): Promise<SandboxView> {
    return this.creation.createFrom(user, want, clone, disk);
  }

  find(user: User, ref: string): Readonly<SandboxRow> {
    return this.registry.get(user.id, ref).row;
  }

  has(user: User, ref: string): boolean {
    return this.registry.find(user.id, ref) !== null;
  }

  count(user: User): number {
    return this.deps.rows.count(user.id);
  }

  checkpoint(id: string, into: CopyTarget): Promise<Checkpoint> {
    const actor = this.registry.byIdOrGone(id);
    return actor.exclusive(() => checkpoint(actor, into));
  }

  async rollback(id: string, target: RollbackTarget): Promise<SandboxView> {
    const actor = this.registry.byIdOrGone(id);
    await actor.replace(() => rollback(actor, target));
    await actor.ensureHot();
    return view(actor);
  }

  /** Makes templates and waiting VMs of the configured shapes ahead of the first create. */
  prepare(): Promise<void> {
    return this.creation.prepare();
  }

  get(user: User, ref: string): SandboxView {
    return view(this.registry.get(user.id, ref));
  }

  async inspect(user: User, ref: string): Promise<SandboxDetail> {
    const actor = this.registry.get(user.id, ref);
    const [work, disk, memory] = await Promise.all([
      actor.idle.look(),
      this.deps.storage
        .usage(actor.dir)
        .catch(() => ({ allocatedBytes: 0, exclusiveBytes: null as number | null })),
      actor.vm?.memory(),
    ]);
    return {
      ...view(actor),
      memory_held_bytes: memory?.pssBytes ?? 0,
      disk_used_bytes: disk.allocatedBytes + this.deps.memoryPool.allocated("sandboxes", actor.row.engine_id),
      disk_exclusive_bytes: disk.exclusiveBytes,
      leases: actor.leases(),
      ...(work ? { guest_work: work } : {}),
      generation: actor.row.generation,
    };
  }

  list(user: User, labels: Record<string, string> = {}): SandboxView[] {
    const wanted = Object.entries(labels);
    const found: SandboxView[] = [];
    for (const actor of this.registry.of(user.id)) {
      if (!visible(actor)) continue;
      const sandbox = view(actor);
      if (wanted.every(([key, value]) => sandbox.labels?.[key] === value)) found.push(sandbox);
    }
    return found.sort((a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : 0));
  }

  async patch(user: User, ref: string, input: PatchInput): Promise<SandboxView> {
    const actor = this.registry.get(user.id, ref);
    await patch(this.deps, actor, input, (before) => this.registry.renamed(actor, before));
    return view(actor);
  }

  async destroy(user: User, ref: string): Promise<void> {
    await this.destroyActor(this.registry.get(user.id, ref), "api");
  }

  async stop(user: User, ref: string, options: { sync?: boolean } = {}): Promise<SandboxView> {
    const actor = this.registry.get(user.id, ref);
    await actor.stop("api");
    if (options.sync) {
      await actor.durable;
      if (actor.row.durable !== 1 && actor.thermal === "cold") {
        throw new AppError(
          "disk_full",
          `sandbox "${actor.row.name}" is stopped, but the disk did not take its data: it would not survive a power cut`,
          { remedy: "the server's operator: bhatti doctor, and the log" },
        );
      }
    }
    return view(actor);
  }

  async start(
    user: User,
    ref: string,
    options: { force?: boolean } = {},
  ): Promise<SandboxView & { already: boolean }> {
    const actor = this.registry.get(user.id, ref);
    const already = actor.isHot() && !actor.health.sick;
    if (options.force && actor.health.sick) {
      await actor.restart({ force: true, reason: "memory_lost" });
    } else if (options.force && actor.row.last_error) {
      const lost = actor.row.last_error;
      this.deps.rows.update(actor.row, { last_error: "", consumed: 1, reason: "memory_lost" });
      this.event("sandbox.memory_lost", actor, { name: actor.row.name, reason: lost });
    }
    await actor.ensureHot();
    await actor.health.insist();
    if (!already) this.event("sandbox.started", actor, { name: actor.row.name, reason: "api" });
    return { ...view(actor), already };
  }

  async restart(user: User, ref: string, options: { force?: boolean } = {}): Promise<SandboxView> {
    const actor = this.registry.get(user.id, ref);
    await actor.restart({ force: options.force ?? false, reason: "restart" });
    return view(actor);
  }

  async console(user: User, ref: string, options: { previous?: boolean } = {}): Promise<string> {
    const actor = this.registry.get(user.id, ref);
    return readConsole(actor.dir, CONSOLE_KEPT, options.previous);
  }

  /** Sandboxes of a user that are given secrets. */
  given(userId: string): { name: string; refs: SecretRef[] }[] {
    return [...this.registry.of(userId)]
      .filter(({ gone, row }) => !gone && row.secrets !== "[]")
      .map(({ row }) => ({ name: row.name, refs: refsOf(row.secrets) }));
  }

  /** Brings files of hot sandboxes up to date; others get them when they wake. */
  async secretChanged(userId: string, secret: string): Promise<void> {
    const told = [...this.registry.of(userId)]
      .filter(({ row }) => refsOf(row.secrets).some(({ name }) => name === secret))
      .map((actor) => actor.bringSecrets());
    await Promise.race([Promise.all(told), Bun.sleep(SECRETS_MS)]);
  }

  lease(user: User, ref: string, kind: string, signal?: AbortSignal): Promise<GuestLease> {
    return this.registry.get(user.id, ref).acquire(kind, signal);
  }

  stats() {
    return stats(this.registry, this.deps.memory);
  }

  /** Stops the warm sandbox that has been idle longest; false when there is none. */
  async evictOne(): Promise<boolean> {
    if (await this.deps.pool.shrink()) return true;
    const warm = [...this.registry.all()]
      .filter((a) => a.thermal === "warm" && a.isFree() && a.row.keep_hot === 0 && !a.gone)
      .sort((a, b) => a.lastActivity - b.lastActivity);
    for (const actor of warm) {
      // Behind a transition of its own it may wait for the very place that our caller holds.
      if (!actor.isQuiet()) continue;
      const gone = await actor.cool("cold", "memory_pressure").catch((err) => {
        this.deps.log.warn({ sandbox: actor.row.id, err }, "eviction failed");
        return false;
      });
      if (gone) return true;
    }
    return false;
  }

  /** What the owner's sandboxes hold on disk, bytes: see StorageQuota. One that is being made is counted by its promise. */
  bytesHeld(userId: string): number {
    let sum = 0;
    for (const actor of this.registry.of(userId)) if (actor.row.status !== "creating") sum += filesOf(actor);
    return sum;
  }

  bytes(id: string): number {
    return filesOf(this.registry.byIdOrGone(id));
  }

  /**
   * Moves the memory of the sandbox that has slept longest out of the reserve, to the data file system; its next wake brings
   * it back. False when there is none, or no room for it there.
   */
  async moveOutOne(): Promise<boolean> {
    const { memoryPool, storage } = this.deps;
    const here = (actor: Actor) => memoryPool.allocated("sandboxes", actor.row.engine_id);
    const asleep = [...this.registry.all()]
      .filter(
        (actor) => actor.thermal === "cold" && actor.row.consumed === 0 && actor.isQuiet() && !actor.gone,
      )
      .filter((actor) => here(actor) > SMALL)
      .sort((a, b) => (a.row.stopped_at < b.row.stopped_at ? -1 : 1));
    for (const actor of asleep) {
      const room = storage.tryReserve(here(actor));
      if (!room) return false;
      try {
        const moved = await actor.run(async () => {
          if (actor.thermal !== "cold" || actor.gone) return false;
          return memoryPool.moveOut("sandboxes", actor.row.engine_id, actor.row.mem_file);
        });
        if (moved) return true;
      } finally {
        room.release();
      }
    }
    return false;
  }

  async destroyActor(actor: Actor, reason: string): Promise<void> {
    const lifetime = Math.round((Date.now() - Date.parse(actor.row.created_at)) / 1000);
    await actor.leave(() => destroy(actor));
    this.registry.remove(actor);
    this.event("sandbox.destroyed", actor, { name: actor.row.name, lifetime_s: lifetime, reason });
  }

  private event(type: string, actor: Actor, meta: Record<string, unknown>): void {
    this.deps.events.record({ type, userId: actor.row.created_by, sandboxId: actor.row.id, meta });
  }
}

/** Disk, memory and device state, bytes on disk. */
const filesOf = ({ row, dir, deps }: Actor): number =>
  blocks(`${dir}/${row.disk_file}`) +
  blocks(deps.memoryPool.outside("sandboxes", row.engine_id, row.mem_file)) +
  deps.memoryPool.allocated("sandboxes", row.engine_id);
