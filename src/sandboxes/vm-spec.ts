import { drivesOf, type VmSpec } from "../engine/engine.ts";
import type { Owner, SandboxNet } from "../network/network.ts";
import { GUEST } from "../network/network.ts";
import type { Actor } from "./actor.ts";
import type { SandboxRow } from "./rows.ts";

/** What the engine needs to know, from the row. */
export function vmSpec(actor: Actor): VmSpec {
  const { row, dir } = actor;
  const { kernels } = actor.deps;
  return {
    id: row.engine_id,
    dir,
    uid: row.uid,
    netns: row.netns,
    tap: GUEST.tap,
    mac: GUEST.mac,
    shape: { vcpus: vcpusOf(row.cpus), memoryMib: row.memory_mb },
    cpus: row.cpus,
    drives: drivesOf(`${dir}/${row.disk_file}`, kernels.modules(row.kernel), row.disk_size_mb * 1024 * 1024),
    memoryPath: memoryPath(actor),
    // Only a start reads it: a VM that runs goes on, and is adopted and saved, when its kernel is missing.
    get kernel() {
      return kernels.get(row.kernel);
    },
  };
}

/** Fractions of a CPU are a quota (where the host has cgroups), not fewer vCPUs: rounded up, at least 1. */
export const vcpusOf = (cpus: number): number => Math.max(1, Math.ceil(cpus));

export const ownerOf = (row: SandboxRow): Owner => ({
  userId: row.created_by,
  subnetIndex: row.subnet_index,
});

export const netOf = (row: SandboxRow): SandboxNet => ({
  slot: row.slot,
  uid: row.uid,
  netns: row.netns,
  address: row.address,
  gateway: row.gateway,
});

/** Guest memory, in the reserve or moved out. */
export const memoryPath = ({ row, deps }: Actor): string =>
  deps.memoryPool.locate("sandboxes", row.engine_id, row.mem_file);

/** Device state, which is written when the data's file system may be full: in the reserve as well. */
export const statePath = ({ row, deps }: Actor, generation = row.generation): string =>
  deps.memoryPool.locate("sandboxes", row.engine_id, `state.${generation}`);

/** What a running VM is promised, bytes. */
export const memoryBytes = (row: SandboxRow): number => row.memory_mb * 1024 * 1024;
