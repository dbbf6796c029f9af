/** cgroup v2 limits of a VMM, where the host has the controllers. */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, rmdir, writeFile } from "node:fs/promises";
import type { VmSpec } from "../engine.ts";

/** Memory beyond the guest's that a VMM may use, MiB (translation cache, device models, page tables). */
const OVERHEAD_MB = 256;

export class Cgroups {
  /** `base`: mount point of cgroup v2. */
  constructor(private readonly base = "/sys/fs/cgroup") {}

  /** Whether limits can be set; shown by doctor. */
  available(): boolean {
    const file = `${this.base}/cgroup.controllers`;
    if (!existsSync(file)) return false;
    const controllers = readFileSync(file, "utf8").split(/\s+/);
    return ["cpu", "memory", "pids"].every((name) => controllers.includes(name));
  }

  /** Creates the group of a VM with its limits; null where there are none to be had. */
  async create(spec: VmSpec, cpus: number): Promise<string | null> {
    if (!this.available()) return null;
    const parent = `${this.base}/bhatti`;
    await mkdir(parent, { recursive: true });
    for (const dir of [this.base, parent]) {
      await writeFile(`${dir}/cgroup.subtree_control`, "+cpu +memory +pids").catch(() => {});
    }
    const group = `${parent}/${spec.id}`;
    await mkdir(group, { recursive: true });
    await writeFile(`${group}/cpu.max`, cpuMax(cpus));
    await writeFile(`${group}/memory.max`, String((spec.shape.memoryMib + OVERHEAD_MB) * 1024 * 1024));
    await writeFile(`${group}/pids.max`, "256");
    return group;
  }

  /** Changes the CPU time of a VM's group, where there is one. */
  async limitCpus(id: string, cpus: number): Promise<void> {
    if (!this.available()) return;
    await writeFile(`${this.base}/bhatti/${id}/cpu.max`, cpuMax(cpus));
  }

  async remove(group: string | null): Promise<void> {
    if (group) await rmdir(group).catch(() => {});
  }
}

/** Microseconds in each tenth of a second; the kernel's least is 1000. */
const cpuMax = (cpus: number): string => `${Math.max(1000, Math.round(cpus * 100_000))} 100000`;
