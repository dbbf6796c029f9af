/** Boots a machine that belongs to nobody and freezes it in the moment its agent answers. */
import { chmod, chown, mkdir, rm } from "node:fs/promises";
import type { Logger } from "pino";
import { drivesOf, type Engine, type KernelFiles, type VmSpec } from "../engine/engine.ts";
import type { Guest } from "../guest/guest.ts";
import { sha256 } from "../lib/hash.ts";
import { newId } from "../lib/ids.ts";
import { GUEST, type Network, type Owner } from "../network/network.ts";
import type { MemoryPool } from "../storage/memory-pool.ts";
import type { Storage } from "../storage/storage.ts";

export interface TemplateShape {
  image: string;
  imagePath: string;
  imageDigest: string;
  vcpus: number;
  memoryMb: number;
}

/** What templates and waiting VMs need of the daemon's configuration. */
export interface TemplateConfig {
  dataDir: string;
  templateBudgetMb: number;
  /** VMs without owner that wait for a create. */
  vmPool: number;
  templates: { image: string; cpus: number; memoryMb: number }[];
}

export interface TemplateDeps {
  engine: Engine;
  kernels: { current(): KernelFiles };
  network: Network;
  storage: Storage;
  memoryPool: MemoryPool;
  config: TemplateConfig;
  log: Logger;
  connectGuest(address: string, token: string): Guest;
  /**
   * A place among the machines that come up, and so many MiB of the memory budget, while a template is made; the answer
   * gives both back. Throws memory_full.
   */
  room(memoryMb: number): Promise<() => void>;
}

/** What the disk of a machine that boots may grow by, bytes. */
const DISK_GROWTH = 256 << 20;

/** Owner of machines that are being made into templates; its subnet is reserved. */
export const TEMPLATE_OWNER: Owner = { userId: "templates", subnetIndex: 65024 };

export class TemplateBuilder {
  constructor(private readonly deps: TemplateDeps) {}

  /**
   * Leaves `state` and `disk` in `into` and `mem` in the reserve, as template `key` (read-only files); returns the SHA-256 of
   * the state.
   */
  async build(shape: TemplateShape, into: string, key: string): Promise<string> {
    const { network, engine, storage, memoryPool, config } = this.deps;
    const id = `template-${newId()}`;
    const dir = `${config.dataDir}/sandboxes/${id}`;
    const bytes = shape.memoryMb * 1024 * 1024;
    const net = network.plan(TEMPLATE_OWNER);
    let died = false;
    const reservation = storage.reserve(DISK_GROWTH, `template of ${shape.image}`);
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await memoryPool.promise("sandboxes", id, bytes, `template of ${shape.image}`);
      await storage.clone(shape.imagePath, `${dir}/disk`);
      await chown(`${dir}/disk`, net.uid, net.uid);
      await network.attach(TEMPLATE_OWNER, net);
      const kernel = this.deps.kernels.current();
      const spec: VmSpec = {
        id,
        dir,
        uid: net.uid,
        netns: net.netns,
        tap: GUEST.tap,
        mac: GUEST.mac,
        shape: { vcpus: shape.vcpus, memoryMib: shape.memoryMb },
        drives: drivesOf(`${dir}/disk`, kernel.modules),
        memoryPath: `${await memoryPool.makeDir("sandboxes", id)}/mem`,
        kernel,
      };
      const vm = await engine.boot(spec);
      try {
        const gone = new AbortController();
        void vm.exited.then((exit) => {
          died = true;
          gone.abort(new Error(`the VM ended while it booted: ${exit.consoleTail.slice(-500)}`));
        });
        const guest = this.deps.connectGuest(net.address, "");
        const { configured } = await guest.ready(120_000, gone.signal);
        if (configured) throw new Error("a template must not be configured");
        await settle(guest);
        guest.disconnect();
        await engine.warmUp(spec);
        await Bun.sleep(300);
        await vm.pause();
        await vm.saveState(`${into}/state`);
        await memoryPool.promise("templates", key, bytes, `template of ${shape.image}`);
        const memory = `${await memoryPool.makeDir("templates", key)}/mem`;
        await storage.clone(spec.memoryPath, memory);
        await chmod(memory, 0o400);
        memoryPool.settle("templates", key);
        await storage.clone(`${dir}/disk`, `${into}/disk`);
        if (died) throw new Error("the VM ended while its template was taken");
      } finally {
        await vm.kill();
      }
      for (const file of ["state", "disk"]) await chmod(`${into}/${file}`, 0o400);
      return await sha256(`${into}/state`);
    } finally {
      reservation.release();
      await network.release(TEMPLATE_OWNER, net);
      await rm(dir, { recursive: true, force: true });
      await memoryPool.remove("sandboxes", id);
    }
  }
}

/** Warms what every create will run: a few calls, so that their pages are part of the template. */
async function settle(guest: Guest): Promise<void> {
  for (let i = 0; i < 3; i++) await guest.ready(10_000);
}
