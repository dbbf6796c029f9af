/** Admission: hot and warm sandboxes together never hold more memory than the host's budget. */
import { readFileSync } from "node:fs";
import { VMM_OVERHEAD_MB } from "../engine/engine.ts";
import { AppError } from "../lib/errors.ts";
import { newId } from "../lib/ids.ts";
import { Semaphore } from "../lib/semaphore.ts";

export class MemoryBudget {
  private readonly held = new Map<string, number>();
  /** Stops one sandbox that can be spared (longest idle warm) and tells whether there was one. */
  evict: () => Promise<boolean> = async () => false;

  /** `budgetMb` 0 = total memory of the host minus 1 GiB. */
  constructor(budgetMb: number) {
    this.budgetMb = budgetMb > 0 ? budgetMb : hostMemory().totalMb - 1024;
  }
  readonly budgetMb: number;

  /** Called when memory was given back. */
  onRelease: () => void = () => {};

  /** Memory that others hold and give back by `evict`, MiB. */
  alsoHeldMb: () => number = () => 0;

  heldMb(): number {
    let sum = 0;
    for (const mb of this.held.values()) sum += mb;
    return sum;
  }

  /** Takes `memoryMb` for `id`; makes room by evicting; throws memory_full when that does not help. */
  async reserve(id: string, memoryMb: number): Promise<void> {
    const need = memoryMb + VMM_OVERHEAD_MB;
    while (!this.held.has(id) && this.heldMb() + this.alsoHeldMb() + need > this.budgetMb) {
      if (await this.evict()) continue;
      throw new AppError(
        "memory_full",
        `no memory for this sandbox: it needs ${need} MB, ${this.heldMb()} of ${this.budgetMb} MB are held by running sandboxes`,
        {
          remedy:
            "stop a sandbox ('bhatti stop NAME') or raise memory_budget_mb in the server's configuration",
          retryAfter: 5,
        },
      );
    }
    this.held.set(id, need);
  }

  /** Without a check: for VMs that already run (adopted after a restart of the daemon, taken from the waiting ones). */
  adopt(id: string, memoryMb: number): void {
    this.held.set(id, memoryMb + VMM_OVERHEAD_MB);
  }

  release(id: string): void {
    if (this.held.delete(id)) this.onRelease();
  }
}

/**
 * Places for machines that come up. A guest decides how long it takes (its agent may never answer: two minutes), so that a
 * quarter of them is out of the reach of each owner alone, and the last one out of the reach of all who have one.
 */
export const wakePlaces = (limit: number): Semaphore =>
  new Semaphore(limit, Math.max(1, Math.floor(limit * 0.75)));

/** A place among the machines that come up and the memory for one that belongs to nobody yet; the answer gives both back. */
export async function roomFor(wakes: Semaphore, memory: MemoryBudget, memoryMb: number): Promise<() => void> {
  const leave = await wakes.acquire();
  const id = `nobody-${newId()}`;
  try {
    await memory.reserve(id, memoryMb);
  } catch (error) {
    leave();
    throw error;
  }
  return () => {
    memory.release(id);
    leave();
  };
}

/** MiB, from /proc/meminfo. */
export function hostMemory(): { totalMb: number; availableMb: number } {
  const text = readFileSync("/proc/meminfo", "utf8");
  const mb = (key: string) =>
    Math.floor(Number(text.match(new RegExp(`^${key}:\\s+(\\d+)`, "m"))?.[1] ?? 0) / 1024);
  return { totalMb: mb("MemTotal"), availableMb: mb("MemAvailable") };
}
