/** The service behind routes and snapshots: finds the actor, hands it the work. */
import { EngineError } from "../engine/engine.ts";
import { AppError, conflict } from "../http/errors.ts";
import type { TemplateShape } from "../templates/builder.ts";
import type { CloneSource } from "../templates/clone-source.ts";
import type { User } from "../users/user.ts";
import { Actor } from "./actor.ts";
import { type Admitted, admit } from "./admission.ts";
import type { Image, SandboxDeps } from "./deps.ts";
import { Registry, visible } from "./registry.ts";
import type { SandboxRow } from "./rows.ts";
import type {
  CreateInput,
  GuestLease,
  PatchInput,
  SandboxDetail,
  Sandboxes,
  SandboxView,
} from "./service.ts";
import { create } from "./transitions/create.ts";
import { destroy } from "./transitions/destroy.ts";
import { view } from "./view.ts";
import { netOf, ownerOf, vcpusOf } from "./vm-spec.ts";

const DEFAULT_MEMORY_MB = 1024;

export class SandboxService implements Sandboxes {
  readonly registry = new Registry();
  /** Creates in flight by owner and name: the second caller of a name waits for the first. */
  private readonly creating = new Map<string, Promise<Actor>>();

  constructor(readonly deps: SandboxDeps) {
    deps.memory.evict = () => this.evictOne();
  }

  async create(user: User, input: CreateInput, signal?: AbortSignal) {
    const { deps } = this;
    const existing = input.name ? this.byName(user, input.name) : undefined;
    if (existing) return { sandbox: view(existing), existing: true, timings: {} };
    const image = await deps.images.resolve(input.image ?? "minimal");
    const cpus = input.cpus ?? 1;
    const memoryMb = input.memory_mb ?? DEFAULT_MEMORY_MB;
    if (input.disk_size_mb && input.disk_size_mb < image.sizeMb) {
      throw new AppError(
        "bad_request",
        `disk_size_mb ${input.disk_size_mb} is smaller than the image (${image.sizeMb} MB)`,
        {
          remedy: `leave it out, or ask for at least ${image.sizeMb}`,
        },
      );
    }
    const shape = shapeOf(image, cpus, memoryMb);
    const want: Admitted = {
      name: input.name,
      namePrefix: "sandbox",
      image: image.name,
      cpus,
      memoryMb,
      diskSizeMb: input.disk_size_mb ?? 0,
      env: input.env ?? {},
      init: input.init ?? "",
      keepHot: input.keep_hot ?? false,
      labels: input.labels ?? {},
      warmAfterS: input.warm_after_s ?? deps.config.warmAfterS,
      coldAfterS: input.cold_after_s ?? deps.config.coldAfterS,
      kernel: deps.kernels.current().version,
      createdFrom: "template",
    };
    const files = (input.files ?? []).map((file) => ({
      path: file.guest_path,
      content: Buffer.from(file.content).toString("base64"),
      mode: file.mode,
    }));
    let timings: Record<string, number> = {};
    let template: CloneSource | null = null;
    const attempt = async () => {
      // The row comes first: a cap that is reached must not build a template.
      const waiting = await deps.pool.take(shape);
      let row: SandboxRow;
      try {
        row = admit(deps, user, want, waiting);
      } catch (error) {
        if (waiting) void deps.pool.discard(waiting);
        throw error;
      }
      return this.bringUp(row, async (actor) => {
        timings = await deps.templates.with(shape, async (clone) => {
          if (!clone) deps.rows.update(row, { created_from: "boot" });
          if (!waiting) template = clone;
          return deps.wakes.with(() => create(actor, { clone, image: image.path, files, waiting }));
        });
      });
    };
    const made = await this.claim(user, want.name, () =>
      attempt().catch(async (error: unknown) => {
        if (!template) throw error;
        // Dropped in the meantime: another create met the damage first, and took the files away.
        const refused = error instanceof EngineError;
        if (!refused && deps.templates.isCurrent(shape, template)) throw error;
        const detail = refused ? error.detail : undefined;
        deps.log.error({ err: error, detail, image: image.name }, "template refused: built anew");
        await deps.templates.drop(shape, template);
        return attempt();
      }),
    ).finally(() => deps.pool.want(shape));
    if (made.existing) return { sandbox: view(made.actor), existing: true, timings };
    if (signal?.aborted) {
      await this.destroyActor(made.actor, "caller left");
      throw signal.reason;
    }
    this.announce(user, made.actor, timings);
    return { sandbox: view(made.actor), existing: false, timings };
  }

  /** A new sandbox from a snapshot's or fork's files. All-or-nothing like create. */
  async createFrom(
    user: User,
    want: Admitted,
    clone: CloneSource | null,
    disk: string,
  ): Promise<SandboxView> {
    let timings: Record<string, number> = {};
    const made = await this.claim(user, want.name, async () => {
      const row = admit(this.deps, user, want);
      return this.bringUp(row, async (actor) => {
        timings = await this.deps.wakes.with(() => create(actor, { clone, image: disk, files: [] }));
      });
    });
    if (made.existing) throw conflict(`name "${want.name}" is already in use`);
    this.announce(user, made.actor, timings);
    return view(made.actor);
  }

  /** Makes templates and waiting VMs of the configured shapes ahead of the first create, one after the other. */
  async prepare(): Promise<void> {
    const { deps } = this;
    for (const { image: name, cpus, memoryMb } of deps.config.templates) {
      const image = await deps.images.resolve(name).catch(() => null);
      if (!image) continue; // built later, it is noticed (images/watch.ts)
      const shape = shapeOf(image, cpus, memoryMb);
      if (await deps.templates.prepare(shape)) deps.pool.want(shape);
    }
  }

  get(user: User, ref: string): SandboxView {
    return view(this.registry.get(user.id, ref));
  }

  async inspect(user: User, ref: string): Promise<SandboxDetail> {
    const actor = this.registry.get(user.id, ref);
    const disk = await this.deps.storage
      .usage(actor.dir)
      .catch(() => ({ allocatedBytes: 0, exclusiveBytes: null as number | null }));
    return {
      ...view(actor),
      memory_held_bytes: actor.vm?.memory().pssBytes ?? 0,
      disk_used_bytes: disk.allocatedBytes,
      disk_exclusive_bytes: disk.exclusiveBytes,
      leases: actor.leases(),
      generation: actor.row.generation,
    };
  }

  list(user: User, labels: Record<string, string> = {}): SandboxView[] {
    return this.registry
      .all()
      .filter((actor) => actor.row.created_by === user.id && !actor.gone)
      .map(view)
      .filter((sandbox) => sandbox.status !== "unknown")
      .filter((sandbox) => Object.entries(labels).every(([key, value]) => sandbox.labels?.[key] === value))
      .sort((a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : 0));
  }

  /** All changes of the row in one write; a failed wake does not undo them. */
  async patch(user: User, ref: string, input: PatchInput): Promise<SandboxView> {
    const actor = this.registry.get(user.id, ref);
    const { row } = actor;
    const patch: Partial<SandboxRow> = {};
    const before = row.name;
    if (input.name !== undefined && input.name !== row.name) {
      if (this.deps.rows.byName(user.id, input.name))
        throw conflict(`name "${input.name}" is already in use`);
      patch.name = input.name;
    }
    if (input.labels_add || input.labels_remove) {
      const labels = { ...(JSON.parse(row.labels) as Record<string, string>), ...input.labels_add };
      for (const key of input.labels_remove ?? []) delete labels[key];
      const count = Object.keys(labels).length;
      if (count > 16) throw new AppError("bad_request", `too many labels: ${count} > 16`);
      patch.labels = JSON.stringify(labels);
    }
    if (input.keep_hot !== undefined) patch.keep_hot = input.keep_hot ? 1 : 0;
    if (input.warm_after_s !== undefined) patch.warm_after_s = input.warm_after_s;
    if (input.cold_after_s !== undefined) patch.cold_after_s = input.cold_after_s;
    this.deps.rows.update(row, patch);
    if (patch.name) this.deps.network.setName(ownerOf(row), netOf(row), patch.name);
    if (Object.keys(patch).length > 0) {
      const meta = patch.name
        ? { old_name: before, new_name: row.name }
        : {
            name: row.name,
            labels_added: Object.keys(input.labels_add ?? {}).length,
            labels_removed: input.labels_remove?.length ?? 0,
            keep_hot: row.keep_hot === 1,
          };
      this.event("sandbox.updated", actor, meta);
    }
    if (input.keep_hot === true) await actor.ensureHot();
    actor.idle.arm();
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
          "stopped, but the disk did not take the data: it would not survive a power cut",
        );
      }
    }
    return view(actor);
  }

  async start(user: User, ref: string, options: { force?: boolean } = {}): Promise<SandboxView> {
    const actor = this.registry.get(user.id, ref);
    if (options.force && actor.row.last_error) {
      const lost = actor.row.last_error;
      this.deps.rows.update(actor.row, { last_error: "", consumed: 1, reason: "memory_lost" });
      this.event("sandbox.memory_lost", actor, { name: actor.row.name, reason: lost });
    }
    await actor.ensureHot();
    this.event("sandbox.started", actor, { name: actor.row.name, reason: "api" });
    return view(actor);
  }

  lease(user: User, ref: string, kind: string, signal?: AbortSignal): Promise<GuestLease> {
    return this.registry.get(user.id, ref).acquire(kind, signal);
  }

  stats() {
    const actors = this.registry.all();
    const count = (thermal: string) => actors.filter((a) => view(a).thermal === thermal).length;
    return {
      total: actors.length,
      hot: count("hot"),
      warm: count("warm"),
      cold: count("cold"),
      memoryHeldBytes: this.deps.memory.heldMb() * 1024 * 1024,
      memoryBudgetBytes: this.deps.memory.budgetMb * 1024 * 1024,
    };
  }

  /** Stops the warm sandbox that has been idle longest; false when there is none. */
  async evictOne(): Promise<boolean> {
    if (await this.deps.pool.shrink()) return true;
    const warm = this.registry
      .all()
      .filter((a) => a.thermal === "warm" && a.isFree() && a.row.keep_hot === 0 && !a.gone)
      .sort((a, b) => a.lastActivity - b.lastActivity);
    for (const actor of warm) {
      const gone = await actor.cool("cold", "memory_pressure").catch((err) => {
        this.deps.log.warn({ sandbox: actor.row.id, err }, "eviction failed");
        return false;
      });
      if (gone) return true;
    }
    return false;
  }

  async destroyActor(actor: Actor, reason: string): Promise<void> {
    const lifetime = Math.round((Date.now() - Date.parse(actor.row.created_at)) / 1000);
    await actor.leave(() => destroy(actor));
    this.registry.remove(actor);
    this.event("sandbox.destroyed", actor, { name: actor.row.name, lifetime_s: lifetime, reason });
  }

  /** The sandbox of that name: present, being created by somebody else, or made now. Nothing yields between look and claim. */
  private async claim(user: User, name: string | undefined, make: () => Promise<Actor>) {
    const key = `${user.id}/${name}`;
    while (name) {
      const inFlight = this.creating.get(key);
      if (!inFlight) break;
      const actor = await inFlight.catch(() => null);
      if (actor) return { actor, existing: true };
    }
    const present = name ? this.byName(user, name) : undefined;
    if (present) return { actor: present, existing: true };
    const promise = make();
    if (name) {
      this.creating.set(key, promise);
      promise.finally(() => this.creating.delete(key)).catch(() => {});
    }
    return { actor: await promise, existing: false };
  }

  private byName(user: User, name: string): Actor | undefined {
    return this.registry.all().find((a) => a.row.created_by === user.id && a.row.name === name && visible(a));
  }

  /** Registers an actor for an admitted row and runs `work`; on failure everything it took is given back. */
  private async bringUp(row: SandboxRow, work: (actor: Actor) => Promise<void>): Promise<Actor> {
    const actor = new Actor(this.deps, row);
    this.registry.add(actor);
    try {
      await actor.run(() => work(actor));
      actor.idle.arm();
      return actor;
    } catch (error) {
      await actor.leave(() => destroy(actor));
      this.registry.remove(actor);
      throw error;
    }
  }

  private announce(_user: User, actor: Actor, timings: Record<string, number>): void {
    const { row } = actor;
    this.deps.metrics.create(row.created_from, timings.total ?? 0);
    this.event("sandbox.created", actor, {
      name: row.name,
      cpus: row.cpus,
      memory_mb: row.memory_mb,
      image: row.image,
      template_id: "",
      keep_hot: row.keep_hot === 1,
      created_from: row.created_from,
      create_ms: timings.total,
    });
  }

  private event(type: string, actor: Actor, meta: Record<string, unknown>): void {
    this.deps.events.record({ type, userId: actor.row.created_by, sandboxId: actor.row.id, meta });
  }
}

function shapeOf(image: Image, cpus: number, memoryMb: number): TemplateShape {
  return {
    image: image.name,
    imagePath: image.path,
    imageDigest: image.digest,
    vcpus: vcpusOf(cpus),
    memoryMb,
  };
}
