/**
 * VMs that wait for an owner: clones of a template, restored, warmed up and paused. A create that finds one only plugs in
 * the network and gives it its identity. They hold no token, no name, no user process, and no row in the database: after a
 * crash of the daemon they are strays and are killed (recovery).
 */
import { chown, mkdir, rm } from "node:fs/promises";
import { drivesOf, VMM_OVERHEAD_MB, type Vm, type VmSpec } from "../engine/engine.ts";
import { newId } from "../lib/ids.ts";
import { GUEST } from "../network/network.ts";
import type { TemplateDeps, TemplateShape } from "./builder.ts";
import type { CloneSource } from "./clone-source.ts";
import type { Templates } from "./templates.ts";

export interface WaitingVm {
  key: string;
  slot: number;
  spec: VmSpec;
  vm: Vm;
}

/** Shapes that are kept ready, most recently used first; more when more are configured. */
const MIN_SHAPES = 2;
/** Pause before each preparation, ms: the first command in the sandbox just made goes first. */
const REST_MS = 250;
const WAIT_MS = 200;
/** Nobody knows yet how large a disk its owner will want; who wants more than this gets a VM that is restored for him, MiB. */
export const POOL_DISK_MB = 32 * 1024;

export class VmPool {
  private waiting: WaitingVm[] = [];
  /** Taken by a create that has not reserved memory for it yet: still counted here. */
  private readonly taken = new Set<WaitingVm>();
  /** MiB of the VM that is being prepared, with its VMM. */
  private preparingMb = 0;
  /** Ends when that VM waits, or has been ended because its memory is wanted (`shrink`). */
  private preparing: Promise<void> | null = null;
  private givenBack = false;
  private shapes: TemplateShape[] = [];
  private filling: Promise<void> | null = null;
  private stopped = false;

  constructor(
    private readonly deps: TemplateDeps,
    private readonly templates: Templates,
    /** Whether a VM may be prepared now that takes so many MiB, its VMM included. */
    private readonly mayHold: (memoryMb: number) => boolean,
  ) {}

  /** Keeps VMs of this shape ready from now on; those of a shape or an image that is no longer wanted end. */
  want(shape: TemplateShape): void {
    const others = this.shapes.filter(
      (known) =>
        known.image !== shape.image || known.vcpus !== shape.vcpus || known.memoryMb !== shape.memoryMb,
    );
    const limit = Math.max(MIN_SHAPES, this.deps.config.templates.length);
    this.shapes = [shape, ...others].slice(0, limit);
    const unwanted = this.waiting.filter((vm) => !this.wanted(vm.key));
    this.waiting = this.waiting.filter((vm) => this.wanted(vm.key));
    for (const vm of unwanted) void this.discard(vm);
    this.fill();
  }

  private wanted(key: string): boolean {
    return this.shapes.some((shape) => this.templates.key(shape) === key);
  }

  /** A VM of this shape, or null. It belongs to the caller, who says `want` when its create is over. */
  async take(shape: TemplateShape): Promise<WaitingVm | null> {
    const key = this.templates.key(shape);
    for (;;) {
      const at = this.waiting.findIndex((candidate) => candidate.key === key);
      if (at < 0) return null;
      const [found] = this.waiting.splice(at, 1);
      this.taken.add(found!);
      if ((await found!.vm.state().catch(() => "exited")) === "paused") return found!;
      await this.discard(found!);
    }
  }

  /** The memory of a taken VM is now counted by its owner. */
  handedOver(vm: WaitingVm): void {
    this.taken.delete(vm);
  }

  /** Ends a VM that nobody got. */
  async discard(waiting: WaitingVm): Promise<void> {
    const { vm, slot, spec } = waiting;
    await vm.kill().catch(() => {});
    this.taken.delete(waiting);
    await this.deps.network.giveUp(slot).catch(() => {});
    await rm(spec.dir, { recursive: true, force: true });
    await this.deps.memoryPool.remove("sandboxes", spec.id);
  }

  /** Gives memory back: true when there was one to end. */
  async shrink(): Promise<boolean> {
    const last = this.waiting.pop();
    if (last) await this.discard(last);
    else if (this.preparing) {
      this.givenBack = true;
      await this.preparing;
    } else return false;
    return true;
  }

  /** Memory of VMs that wait, are being prepared, or are on their way to an owner, with their VMMs, MiB. */
  heldMb(): number {
    const held = [...this.waiting, ...this.taken];
    return held.reduce((sum, { spec }) => sum + spec.shape.memoryMib + VMM_OVERHEAD_MB, this.preparingMb);
  }

  /** Memory became free: VMs that could not be prepared for want of it are prepared now. */
  roomMade(): void {
    this.fill();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.filling;
    while (await this.shrink());
  }

  private fill(): void {
    if (this.stopped || this.filling) return;
    this.filling = this.run()
      .catch((err) => this.deps.log.warn({ err, detail: err?.detail }, "a VM could not be prepared"))
      .finally(() => {
        this.filling = null;
      });
  }

  private async run(): Promise<void> {
    for (;;) {
      await Bun.sleep(REST_MS);
      const shape = this.shapes.find(
        (s) =>
          this.templates.has(s) &&
          this.waiting.filter((w) => w.key === this.templates.key(s)).length < this.deps.config.vmPool &&
          this.mayHold(s.memoryMb + VMM_OVERHEAD_MB),
      );
      if (this.stopped || !shape) return;
      this.givenBack = false;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.preparing = promise;
      try {
        if (await this.prepareOne(shape)) continue;
      } finally {
        this.preparingMb = 0;
        this.preparing = null;
        resolve();
      }
      await Bun.sleep(WAIT_MS); // no namespace is ready just now
    }
  }

  /** Prepares a VM and puts it among those that wait, unless it is no longer wanted. False when there was no place for it. */
  private async prepareOne(shape: TemplateShape): Promise<boolean> {
    this.preparingMb = shape.memoryMb + VMM_OVERHEAD_MB;
    const made = await this.templates.with(shape, async (source) =>
      source ? this.prepare(shape, source) : null,
    );
    if (!made) return false;
    if (this.stopped || this.givenBack || !this.wanted(made.key)) await this.discard(made);
    else this.waiting.push(made);
    return true;
  }

  private async prepare(shape: TemplateShape, from: CloneSource): Promise<WaitingVm | null> {
    const { network, storage, memoryPool, engine, config, kernels } = this.deps;
    const place = network.borrow();
    if (!place) return null;
    const id = newId();
    const dir = `${config.dataDir}/sandboxes/${id}`;
    const kernel = kernels.current();
    const spec: VmSpec = {
      id,
      dir,
      uid: place.uid,
      netns: place.netns,
      tap: GUEST.tap,
      mac: GUEST.mac,
      shape: { vcpus: shape.vcpus, memoryMib: shape.memoryMb },
      drives: drivesOf(`${dir}/disk.0`, kernel.modules, POOL_DISK_MB * 1024 * 1024),
      memoryPath: `${memoryPool.dir("sandboxes", id)}/mem.0`,
      kernel,
    };
    let vm: Vm | null = null;
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await memoryPool.promise("sandboxes", id, shape.memoryMb * 1024 * 1024, "a waiting VM");
      await memoryPool.makeDir("sandboxes", id);
      await Promise.all([
        storage.clone(from.memory, spec.memoryPath),
        storage.clone(`${from.dir}/disk`, spec.drives[0]!.path),
      ]);
      await chown(spec.memoryPath, spec.uid, spec.uid);
      await chown(spec.drives[0]!.path, spec.uid, spec.uid);
      vm = await engine.restore(spec, `${from.dir}/state`);
      await vm.resume();
      await engine.warmUp(spec);
      await vm.pause();
      return { key: this.templates.key(shape), slot: place.slot, spec, vm };
    } catch (error) {
      await vm?.kill();
      await network.giveUp(place.slot).catch(() => {});
      await rm(dir, { recursive: true, force: true });
      await memoryPool.remove("sandboxes", id);
      throw error;
    }
  }
}
