/** How a sandbox comes into being: found by its name, cloned from a template, a snapshot or a fork, or booted. */
import { EngineError } from "../engine/engine.ts";
import type { Image } from "../images/image.ts";
import { AppError, badRequest } from "../lib/errors.ts";
import { blocks } from "../storage/blocks.ts";
import type { TemplateShape } from "../templates/builder.ts";
import type { CloneSource } from "../templates/clone-source.ts";
import { POOL_DISK_MB } from "../templates/vm-pool.ts";
import type { User } from "../users/user.ts";
import { Actor } from "./actor.ts";
import { admit } from "./admission.ts";
import type { Admitted } from "./copies.ts";
import type { SandboxDeps } from "./deps.ts";
import { differences } from "./differences.ts";
import { fingerprintOf, IdempotencyKeys } from "./idempotency.ts";
import { nameInUse } from "./refusals.ts";
import type { Registry } from "./registry.ts";
import type { SandboxRow } from "./rows.ts";
import type { Created, CreateInput, CreateOptions, SandboxView } from "./service.ts";
import { create } from "./transitions/create.ts";
import { destroy } from "./transitions/destroy.ts";
import { transitions } from "./transitions/transitions.ts";
import { view } from "./view.ts";
import { vcpusOf } from "./vm-spec.ts";

const DEFAULT_MEMORY_MB = 1024;

export class Creation {
  /** Creates in flight by owner and name: the second caller of a name waits for the first. */
  private readonly creating = new Map<string, Promise<Actor>>();
  /** Creates in flight by owner and Idempotency-Key. */
  private readonly keyed = new Map<string, Promise<unknown>>();
  private readonly keys: IdempotencyKeys;

  /** `discard`: destroys a sandbox whose caller has left. */
  constructor(
    private readonly deps: SandboxDeps,
    private readonly registry: Registry,
    private readonly discard: (actor: Actor, reason: string) => Promise<void>,
  ) {
    this.keys = new IdempotencyKeys(deps.rows.store);
  }

  async create(user: User, input: CreateInput, options: CreateOptions = {}): Promise<Created> {
    const key = options.idempotencyKey;
    if (key === undefined) return this.make(user, input, options.signal);
    const flight = `${user.id}/${key}`;
    while (this.keyed.has(flight)) await this.keyed.get(flight)!.catch(() => {});
    const request = fingerprintOf(input);
    const found = this.keys.find(user.id, key, request, (id) => this.registry.find(user.id, id) !== null);
    if (found) return existingOne(this.registry.get(user.id, found), input);
    // A caller that left may come back with its key: what it asked for is made to the end.
    const made = this.make(user, input, undefined, (row) =>
      this.keys.remember(user.id, key, request, row.id, false),
    ).then((created) => {
      if (created.existing) this.keys.remember(user.id, key, request, created.sandbox.id, true);
      else this.keys.made(user.id, key);
      return created;
    });
    this.keyed.set(flight, made);
    return made.finally(() => this.keyed.delete(flight));
  }

  private async make(
    user: User,
    input: CreateInput,
    signal?: AbortSignal,
    admitted?: (row: SandboxRow) => void,
  ): Promise<Created> {
    const { deps } = this;
    const existing = input.name ? this.registry.byName(user.id, input.name) : null;
    if (existing) return existingOne(existing, input);
    const secrets = input.secrets ?? [];
    deps.secrets.assertUsable(user.id, secrets);
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
    if ((input.disk_size_mb ?? 0) > deps.config.maxDiskMb) {
      throw badRequest(
        `disk_size_mb ${input.disk_size_mb} is more than this server gives (${deps.config.maxDiskMb} MB)`,
        "ask for less, or have the server's operator raise max_disk_mb",
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
      secrets,
      keepHot: input.keep_hot ?? false,
      labels: input.labels ?? {},
      warmAfterS: input.warm_after_s ?? deps.config.warmAfterS,
      coldAfterS: input.cold_after_s ?? deps.config.coldAfterS,
      onUnresponsive: input.on_unresponsive,
      kernel: deps.kernels.current().version,
      createdFrom: "template",
    };
    const files = (input.files ?? []).map((file) => ({
      path: file.guest_path,
      content: Buffer.from(file.content).toString("base64"),
      mode: file.mode,
    }));
    let timings: Record<string, number> = {};
    /** What the VM is being cloned from, until it runs. */
    let template: CloneSource | null = null;
    const attempt = async () => {
      const room = deps.quota.take(user, blocks(image.path), "this sandbox");
      return made().finally(room.release);
    };
    const made = async () => {
      // The row comes first: a cap that is reached must not build a template.
      const waiting = want.diskSizeMb <= POOL_DISK_MB ? await deps.pool.take(shape) : null;
      let row: SandboxRow;
      try {
        row = admit(deps, user, want, waiting, admitted);
      } catch (error) {
        if (waiting) void deps.pool.discard(waiting);
        throw error;
      }
      return this.bringUp(row, async (actor) => {
        timings = await deps.templates.with(shape, async (clone) => {
          if (!clone) deps.rows.update(row, { created_from: "boot" });
          if (!waiting) template = clone;
          const runs = () => {
            template = null;
          };
          return actor.comingUp(() => create(actor, { clone, image: image.path, files, waiting, runs }));
        });
      }).finally(() => {
        if (waiting) deps.pool.handedOver(waiting);
      });
    };
    const claimed = await this.claim(user, want.name, () =>
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
    if (claimed.existing) return existingOne(claimed.actor, input);
    if (signal?.aborted) {
      await this.discard(claimed.actor, "caller left");
      throw signal.reason;
    }
    this.announce(claimed.actor, timings);
    return { sandbox: view(claimed.actor), existing: false, differs: [], timings };
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
      const bytes = blocks(disk) + (clone ? blocks(clone.memory) : 0);
      const room = this.deps.quota.take(user, bytes, "this copy");
      try {
        const row = admit(this.deps, user, want);
        return await this.bringUp(row, async (actor) => {
          timings = await actor.comingUp(() => create(actor, { clone, image: disk, files: [] }));
        });
      } finally {
        room.release();
      }
    });
    if (made.existing) throw nameInUse(want.name ?? "");
    this.announce(made.actor, timings);
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

  /** The sandbox of that name: present, being created by somebody else, or made now. Nothing yields between look and claim. */
  private async claim(user: User, name: string | undefined, make: () => Promise<Actor>) {
    const key = `${user.id}/${name}`;
    while (name) {
      const inFlight = this.creating.get(key);
      if (!inFlight) break;
      const actor = await inFlight.catch(() => null);
      if (actor) return { actor, existing: true };
    }
    const present = name ? this.registry.byName(user.id, name) : null;
    if (present) return { actor: present, existing: true };
    const promise = make();
    if (name) {
      this.creating.set(key, promise);
      promise.finally(() => this.creating.delete(key)).catch(() => {});
    }
    return { actor: await promise, existing: false };
  }

  /** Registers an actor for an admitted row and runs `work`; on failure everything it took is given back. */
  private async bringUp(row: SandboxRow, work: (actor: Actor) => Promise<void>): Promise<Actor> {
    const actor = new Actor(this.deps, row, transitions);
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

  private announce(actor: Actor, timings: Record<string, number>): void {
    const { row } = actor;
    this.deps.metrics.create(row.created_from, timings.total ?? 0);
    const subject = { userId: row.created_by, sandboxId: row.id };
    const meta = {
      name: row.name,
      cpus: row.cpus,
      memory_mb: row.memory_mb,
      image: row.image,
      template_id: "",
      keep_hot: row.keep_hot === 1,
      created_from: row.created_from,
      create_ms: timings.total,
    };
    this.deps.events.record({ type: "sandbox.created", ...subject, meta });
  }
}

const existingOne = (actor: Actor, input: CreateInput): Created => ({
  sandbox: view(actor),
  existing: true,
  differs: differences(input, actor.row),
  timings: {},
});

function shapeOf(image: Image, cpus: number, memoryMb: number): TemplateShape {
  return {
    image: image.name,
    imagePath: image.path,
    imageDigest: image.digest,
    vcpus: vcpusOf(cpus),
    memoryMb,
  };
}
