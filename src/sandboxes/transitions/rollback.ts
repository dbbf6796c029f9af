/** Puts a sandbox onto the files of a snapshot: its own identity, the snapshot's memory and disk. Ends cold. */
import { rm } from "node:fs/promises";
import type { Actor } from "../actor.ts";
import type { RollbackTarget } from "../copies.ts";
import { memoryPath, statePath } from "../vm-spec.ts";
import { giveTo, Transition } from "./steps.ts";

/** Nothing of the present machine is touched before the new files are complete; the switch is one commit. */
export async function rollback(actor: Actor, target: RollbackTarget): Promise<void> {
  const { row, deps } = actor;
  const t = new Transition(actor, "rollback");
  const generation = row.generation + 1;
  const fresh = {
    disk: `${actor.dir}/disk.${generation}`,
    mem: `${deps.memoryPool.dir("sandboxes", row.engine_id)}/mem.${generation}`,
    state: statePath(actor, generation),
  };
  const old = [`${actor.dir}/${row.disk_file}`, memoryPath(actor), statePath(actor)];
  const { memoryPool } = deps;
  const before = memoryPool.charged("sandboxes", row.engine_id);
  t.begin();
  try {
    const added = target.memoryMb * 1024 * 1024;
    await memoryPool.promise("sandboxes", row.engine_id, before + added, `the memory of ${row.name}`);
    await memoryPool.makeDir("sandboxes", row.engine_id);
    await deps.storage.clone(`${target.clone.dir}/disk`, fresh.disk);
    await deps.storage.clone(target.clone.memory, fresh.mem);
    await deps.storage.clone(`${target.clone.dir}/state`, fresh.state);
    await giveTo(row.uid, fresh.disk);
    await giveTo(row.uid, fresh.mem);
    t.reached("staged");
    await deps.storage.sync(Object.values(fresh));
    t.commit("switched", {
      status: "stopped",
      reason: "rollback",
      disk_file: `disk.${generation}`,
      mem_file: `mem.${generation}`,
      generation,
      consumed: 0,
      frozen: 1,
      durable: 1,
      state_sha256: target.clone.stateSha256,
      fingerprint: target.fingerprint,
      kernel: target.clone.kernel,
      boot_id: deps.bootId,
      token: target.clone.token,
      agent_generation: Math.max(row.agent_generation, target.clone.agentGeneration),
      cpus: target.cpus,
      memory_mb: target.memoryMb,
      last_error: "",
    });
  } catch (error) {
    for (const file of Object.values(fresh)) await rm(file, { force: true });
    memoryPool.adopt("sandboxes", row.engine_id, before);
    t.end();
    throw error;
  }
  const vm = actor.vm;
  actor.detach();
  await vm?.kill();
  t.end({ pid: 0, pid_start: 0 });
  for (const file of old) await rm(file, { force: true });
  memoryPool.settle("sandboxes", row.engine_id);
  t.log();
}
