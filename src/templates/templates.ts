/**
 * Templates: the ready state of a booted machine, taken before its agent was configured, so that a create is a restore.
 * Keyed by everything that matters; shared read-only; collected by last use under a disk budget.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { AppError } from "../lib/errors.ts";
import { sha256 } from "../lib/hash.ts";
import { newId } from "../lib/ids.ts";
import { Semaphore } from "../lib/semaphore.ts";
import type { TemplateBuilder, TemplateDeps, TemplateShape } from "./builder.ts";
import type { CloneSource } from "./clone-source.ts";

interface Manifest extends TemplateShape {
  key: string;
  kernel: string;
  fingerprint: string;
  stateSha256: string;
  createdAt: string;
  buildMs: number;
  allocatedBytes: number;
}

/** After a failed build, creates boot for this long before it is tried again, ms. */
const RETRY_MS = 60_000;
/** Failures that are remembered: shapes are what users ask for, there is no end to them. */
const MAX_FAILED = 100;
/** Builds at a time. A create that finds them busy boots: whoever asks for many shapes holds up nobody. */
const MAX_BUILDS = 2;

export class Templates {
  private readonly building = new Map<string, Promise<CloneSource | null>>();
  private readonly failedAt = new Map<string, number>();
  private readonly ready = new Map<string, CloneSource>();
  private readonly users = new Map<string, number>();
  private readonly builds = new Semaphore(MAX_BUILDS);

  constructor(
    private readonly deps: TemplateDeps,
    private readonly builder: TemplateBuilder,
  ) {}

  private get root(): string {
    return `${this.deps.config.dataDir}/templates`;
  }

  /** Removes half-built and damaged templates and those of other kernels, VMMs or CPUs. */
  async start(): Promise<void> {
    await mkdir(this.root, { recursive: true, mode: 0o700 });
    for (const name of await readdir(this.root)) {
      const manifest = await this.readManifest(name);
      const valid =
        manifest !== null &&
        manifest.fingerprint === this.deps.engine.fingerprint() &&
        manifest.kernel === this.deps.kernels.current().version &&
        manifest.stateSha256 === (await sha256(`${this.root}/${name}/state`));
      if (!valid) await this.remove(name);
      else this.ready.set(name, this.source(name, manifest));
    }
    await this.deps.memoryPool.sweep("templates", new Set(this.ready.keys()));
  }

  /** Identity of a template: image content, kernel and agent, VMM and CPU, shape. */
  key(shape: TemplateShape): string {
    const kernel = this.deps.kernels.current();
    const parts = [
      shape.imageDigest,
      kernel.version,
      this.deps.engine.fingerprint(),
      shape.vcpus,
      shape.memoryMb,
    ];
    return createHash("sha256").update(parts.join("\n")).digest("hex").slice(0, 32);
  }

  /** Whether the next create of this shape would hit. */
  has(shape: TemplateShape): boolean {
    return this.ready.has(this.key(shape));
  }

  /** Whether creates of this shape would still be made from this template. */
  isCurrent(shape: TemplateShape, template: CloneSource): boolean {
    return this.ready.get(this.key(shape)) === template;
  }

  /**
   * Runs `use` with the template for `shape`, building it first if needed (callers at the same time share one build), or
   * with null when it cannot be built: the caller boots. The template is not collected while it is used.
   */
  async with<T>(
    shape: TemplateShape,
    use: (source: CloneSource | null) => Promise<T>,
    patient = false,
  ): Promise<T> {
    const key = this.key(shape);
    this.users.set(key, (this.users.get(key) ?? 0) + 1);
    try {
      return await use(await this.find(key, shape, patient));
    } finally {
      const left = this.users.get(key)! - 1;
      if (left > 0) this.users.set(key, left);
      else this.users.delete(key);
    }
  }

  /** Builds ahead, after others if need be; errors are logged by the build itself. */
  async prepare(shape: TemplateShape): Promise<boolean> {
    return this.with(shape, async (found) => found !== null, true);
  }

  /** Entries that are kept by shape, for their bound. */
  tracked(): number {
    return this.users.size + this.failedAt.size + this.building.size;
  }

  /** Forgets a template that turned out to be unusable; one that was built since then stays. */
  async drop(shape: TemplateShape, unusable: CloneSource): Promise<void> {
    const key = this.key(shape);
    if (this.ready.get(key) !== unusable) return;
    this.ready.delete(key);
    await this.remove(key);
  }

  /** Gives up the least recently used template that nobody uses, for want of memory: the next create builds it again. */
  async dropOne(): Promise<boolean> {
    const [oldest] = (await this.byUse()).filter(({ key }) => (this.users.get(key) ?? 0) === 0).reverse();
    if (!oldest) return false;
    this.ready.delete(oldest.key);
    await this.remove(oldest.key);
    this.deps.log.info({ template: oldest.key }, "template given up: its memory is needed");
    return true;
  }

  list(): { key: string; dir: string }[] {
    return [...this.ready].map(([key, { dir }]) => ({ key, dir }));
  }

  private async find(key: string, shape: TemplateShape, patient: boolean): Promise<CloneSource | null> {
    if (process.env.BHATTI_TEST_NO_TEMPLATES === "1") return null; // benchmarks of the cold boot
    const found = this.ready.get(key);
    if (found && existsSync(`${found.dir}/manifest.json`)) {
      void utimes(`${found.dir}/manifest.json`, new Date(), new Date()).catch(() => {});
      return found;
    }
    if (Date.now() - (this.failedAt.get(key) ?? 0) < RETRY_MS) return null;
    const running = this.building.get(key);
    if (running) return running;
    const free = this.builds.tryAcquire();
    if (!free && !patient) return null;
    const build = this.inTurn(free, key, shape).finally(() => this.building.delete(key));
    this.building.set(key, build);
    return build;
  }

  private async inTurn(free: (() => void) | null, key: string, shape: TemplateShape) {
    const release = free ?? (await this.builds.acquire());
    try {
      return await this.build(key, shape);
    } finally {
      release();
    }
  }

  private async build(key: string, shape: TemplateShape): Promise<CloneSource | null> {
    const id = `.${newId()}.tmp`;
    const staging = `${this.root}/${id}`;
    const { memoryPool } = this.deps;
    const began = performance.now();
    let leave = () => {};
    try {
      leave = await this.deps.room(shape.memoryMb);
      await mkdir(staging, { recursive: true, mode: 0o700 });
      const stateSha256 = await this.builder.build(shape, staging, id);
      const { allocatedBytes } = await this.deps.storage.usage(staging);
      const manifest: Manifest = {
        ...shape,
        key,
        kernel: this.deps.kernels.current().version,
        fingerprint: this.deps.engine.fingerprint(),
        stateSha256,
        createdAt: new Date().toISOString(),
        buildMs: Math.round(performance.now() - began),
        allocatedBytes: allocatedBytes + memoryPool.allocated("templates", id),
      };
      await writeFile(`${staging}/manifest.json`, JSON.stringify(manifest, null, 2));
      await this.deps.storage.sync([
        memoryPool.locate("templates", id, "mem"),
        ...["state", "disk", "manifest.json"].map((f) => `${staging}/${f}`),
      ]);
      await this.remove(key);
      await memoryPool.rename("templates", id, key);
      await rename(staging, `${this.root}/${key}`);
      const made = this.source(key, manifest);
      this.ready.set(key, made);
      this.deps.log.info({ template: key, image: shape.image, ms: manifest.buildMs }, "template built");
      await this.collect();
      return made;
    } catch (error) {
      // Without room now there may be some in a moment; anything else is not tried at every create.
      const noRoom = error instanceof AppError && ["memory_full", "disk_full"].includes(error.code);
      if (!noRoom) this.failed(key);
      this.deps.log.error(
        { template: key, image: shape.image, err: error },
        "template build failed; creates boot instead",
      );
      await this.remove(id);
      return null;
    } finally {
      leave();
    }
  }

  private failed(key: string): void {
    this.failedAt.delete(key);
    this.failedAt.set(key, Date.now());
    if (this.failedAt.size > MAX_FAILED) this.failedAt.delete(this.failedAt.keys().next().value!);
  }

  /** Deletes the least recently used templates above the budget, never one in use. */
  private async collect(): Promise<void> {
    let sum = 0;
    for (const [index, { key, bytes }] of (await this.byUse()).entries()) {
      sum += bytes;
      if (
        index === 0 ||
        sum <= this.deps.config.templateBudgetMb * 1024 * 1024 ||
        (this.users.get(key) ?? 0) > 0
      )
        continue;
      this.ready.delete(key);
      await this.remove(key);
      this.deps.log.info({ template: key }, "template collected");
    }
  }

  /** Most recently used first. */
  private async byUse(): Promise<{ key: string; used: number; bytes: number }[]> {
    const known = [];
    for (const key of this.ready.keys()) {
      const manifest = await this.readManifest(key);
      const used = manifest ? (await Bun.file(`${this.root}/${key}/manifest.json`).stat()).mtimeMs : 0;
      known.push({ key, used, bytes: manifest?.allocatedBytes ?? 0 });
    }
    return known.sort((a, b) => b.used - a.used);
  }

  private async remove(key: string): Promise<void> {
    await rm(`${this.root}/${key}`, { recursive: true, force: true });
    await this.deps.memoryPool.remove("templates", key);
  }

  private source(key: string, manifest: Manifest): CloneSource {
    return {
      kind: "template",
      dir: `${this.root}/${key}`,
      memory: `${this.deps.memoryPool.dir("templates", key)}/mem`,
      token: "",
      agentGeneration: 0,
      kernel: manifest.kernel,
      stateSha256: manifest.stateSha256,
    };
  }

  private async readManifest(name: string): Promise<Manifest | null> {
    try {
      const manifest = JSON.parse(await readFile(`${this.root}/${name}/manifest.json`, "utf8")) as Manifest;
      const complete = [
        `${this.deps.memoryPool.dir("templates", name)}/mem`,
        `${this.root}/${name}/state`,
        `${this.root}/${name}/disk`,
      ].every((file) => existsSync(file));
      return complete && manifest.key === name ? manifest : null;
    } catch {
      return null;
    }
  }
}
