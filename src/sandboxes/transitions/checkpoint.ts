/** Copies a machine as it is now: memory, device state and disk of one moment. The source goes on. */
import { rm, stat } from "node:fs/promises";
import { EngineError, isVmmSilent } from "../../engine/engine.ts";
import { isSilence } from "../../guest/errors.ts";
import { AppError, conflict } from "../../lib/errors.ts";
import { sha256 } from "../../lib/hash.ts";
import type { Actor, Running } from "../actor.ts";
import type { Checkpoint, CopyTarget } from "../copies.ts";
import { forceStart } from "../refusals.ts";
import { memoryBytes, statePath, vmSpec } from "../vm-spec.ts";
import { Transition } from "./steps.ts";
import { goOn } from "./stop.ts";
import { wake } from "./wake.ts";

/**
 * Writes `mem`, `state` and `disk`. User processes are frozen first, so that none of them can run
 * in a clone before the agent took on its new identity; without the agent's word there is no checkpoint.
 */
export async function checkpoint(actor: Actor, into: CopyTarget): Promise<Checkpoint> {
  const { row } = actor;
  if (!actor.vm && row.consumed === 1) await wake(actor);
  return actor.thermal === "cold" ? fromCold(actor, into) : fromLive(actor, actor.running(), into);
}

async function fromLive(actor: Actor, { vm, guest }: Running, into: CopyTarget): Promise<Checkpoint> {
  const { deps } = actor;
  const was = actor.thermal;
  const spec = vmSpec(actor);
  const disk = spec.drives[0]!.path;
  const t = new Transition(actor, "checkpoint");
  let frozen = false;
  t.begin();
  try {
    const memory = await copyOfMemory(actor, into);
    await vm.resume();
    // The disk alone must be worth something too (export, import --cold): the guest's own cache goes to it first.
    await guest.sync(10_000).catch(() => {});
    // Most dirty pages go to disk while the guest runs; the copy during the pause then has little left to flush.
    await deps.storage.sync([spec.memoryPath, disk]);
    t.reached("flushed");
    await guest.prepareClone(10_000).catch((cause) => {
      if (isSilence(cause)) throw cause;
      throw new AppError(
        "guest_failed",
        `the agent of sandbox "${actor.row.name}" did not prepare for the snapshot`,
        {
          cause,
          remedy: `bhatti inspect ${actor.row.name} shows its state; bhatti restart ${actor.row.name} boots it from its disk`,
        },
      );
    });
    frozen = true;
    t.reached("frozen");
    const pausedAt = performance.now();
    guest.standsStill(true);
    await vm.pause();
    await vm.saveState(`${into.dir}/state`);
    t.reached("saved");
    await Promise.all([
      deps.storage.clone(spec.memoryPath, memory),
      deps.storage.clone(disk, `${into.dir}/disk`),
    ]);
    deps.memoryPool.settle("snapshots", into.id);
    t.reached("copied");
    await assertMemorySize(memory, actor);
    if ((await vm.state()) !== "paused")
      throw new EngineError("the VMM did not stay paused while it was copied");
    await vm.resume();
    const pauseMs = Math.round((performance.now() - pausedAt) * 10) / 10;
    await guest.resumeSource();
    frozen = false;
    t.reached("resumed");
    if (was === "warm") await vm.pause();
    t.end();
    t.log({ pauseMs });
    return { pauseMs, stateSha256: await sha256(`${into.dir}/state`), ...agentOf(actor) };
  } catch (error) {
    for (const file of ["state", "disk"]) await rm(`${into.dir}/${file}`, { force: true });
    await deps.memoryPool.remove("snapshots", into.id);
    if (!isVmmSilent(error)) await goOn(actor, was, frozen);
    t.end();
    throw error;
  } finally {
    guest.standsStill(false);
    if (actor.vm) actor.enter(was);
  }
}

async function fromCold(actor: Actor, into: CopyTarget): Promise<Checkpoint> {
  const { row, deps } = actor;
  if (row.last_error) throw new AppError("restore_failed", row.last_error, { remedy: forceStart(row.name) });
  if (row.fingerprint !== deps.engine.fingerprint()) {
    throw conflict(
      `sandbox "${row.name}" sleeps as another VMM version, or another CPU, saved it: such a copy could not run here`,
      `bhatti start ${row.name}, then take the snapshot`,
    );
  }
  if (row.frozen !== 1) {
    throw conflict(
      `sandbox "${row.name}" was stopped while its agent did not answer: it cannot be copied while it sleeps`,
      `bhatti start ${row.name}, then take the snapshot`,
    );
  }
  const spec = vmSpec(actor);
  const memory = await copyOfMemory(actor, into);
  await Promise.all([
    deps.storage.clone(spec.memoryPath, memory),
    deps.storage.clone(spec.drives[0]!.path, `${into.dir}/disk`),
    deps.storage.clone(statePath(actor), `${into.dir}/state`),
  ]);
  deps.memoryPool.settle("snapshots", into.id);
  await assertMemorySize(memory, actor);
  const sha = await sha256(`${into.dir}/state`);
  if (sha !== row.state_sha256)
    throw new AppError("restore_failed", `the saved state of sandbox "${row.name}" is damaged`, {
      remedy: forceStart(row.name),
    });
  return { pauseMs: 0, stateSha256: sha, ...agentOf(actor) };
}

/**
 * Where the copy of the memory goes, with the room it may need promised: a live machine may touch all of its memory before it
 * is paused. Memory that sleeps outside the reserve is copied there, where the copy is a reflink as well.
 */
async function copyOfMemory({ row, deps: { memoryPool }, vm }: Actor, into: CopyTarget): Promise<string> {
  const here = memoryPool.locate("sandboxes", row.engine_id, row.mem_file);
  if (here === memoryPool.outside("sandboxes", row.engine_id, row.mem_file))
    return memoryPool.outside("snapshots", into.id, "mem");
  const bytes = vm ? memoryBytes(row) : memoryPool.charged("sandboxes", row.engine_id);
  await memoryPool.promise("snapshots", into.id, bytes, `a copy of the memory of ${row.name}`);
  return `${await memoryPool.makeDir("snapshots", into.id)}/mem`;
}

const agentOf = ({ row }: Actor) => ({
  token: row.token,
  agentGeneration: row.agent_generation,
  kernel: row.kernel,
});

/** A VMM can resize its memory file; what the row says is true. */
async function assertMemorySize(path: string, { row }: Actor): Promise<void> {
  if ((await stat(path)).size !== row.memory_mb * 1024 * 1024)
    throw new EngineError("the memory file of the VM has another size than its memory");
}
