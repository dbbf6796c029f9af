/** cold → hot: a new VMM on the saved generation, which is consumed before its vCPUs run. */
import { rm, stat } from "node:fs/promises";
import { EngineError } from "../../engine/engine.ts";
import { AppError } from "../../lib/errors.ts";
import { sha256 } from "../../lib/hash.ts";
import type { Actor } from "../actor.ts";
import { forceStart } from "../refusals.ts";
import { memoryBytes, netOf, ownerOf, statePath, vmSpec } from "../vm-spec.ts";
import { CONFIGURE_MS, connect, giveTo, identity, Transition } from "./steps.ts";

/**
 * Failures of the saved state itself close the door (last_error) until `start --force`; failures of the host (no memory,
 * no disk, daemon stopping) leave the sandbox cold and whole.
 */
export async function restore(actor: Actor): Promise<void> {
  const { row, deps } = actor;
  const t = new Transition(actor, "start");
  const damage = await whyNotRestorable(actor);
  if (damage) {
    deps.rows.update(row, { last_error: `cannot restore memory: ${damage}` });
    deps.events.record({
      type: "sandbox.restore_failed",
      userId: row.created_by,
      sandboxId: row.id,
      meta: { error: damage },
    });
    throw new AppError(
      "restore_failed",
      `${row.last_error}; use 'bhatti start --force' to boot it from its disk`,
      {
        remedy: forceStart(row.name),
      },
    );
  }
  t.reached("verified");
  await deps.memory.reserve(row.id, row.memory_mb);
  const oldState = statePath(actor);
  const rolledBack = row.reason === "rollback";
  try {
    await deps.memoryPool.promise("sandboxes", row.engine_id, memoryBytes(row), row.name);
    await deps.memoryPool.bringBack("sandboxes", row.engine_id, row.mem_file);
    const spec = vmSpec(actor);
    t.begin();
    await deps.network.attach(ownerOf(row), netOf(row));
    await deps.network.flush(netOf(row));
    t.reached("network");
    await giveTo(row.uid, spec.memoryPath);
    const vm = await deps.engine.restore(spec, oldState).catch((error: unknown) => {
      if (error instanceof EngineError) {
        deps.log.error({ sandbox: row.id, err: error, detail: error.detail }, "restore failed");
        deps.rows.update(row, { last_error: "cannot restore memory: the VMM refused the saved state" });
        throw new AppError(
          "restore_failed",
          `${row.last_error}; use 'bhatti start --force' to boot it from its disk`,
          { remedy: forceStart(row.name) },
        );
      }
      throw error;
    });
    actor.attach(vm, "warm");
    t.reached("loaded");
    try {
      // A VMM that died before its vCPUs ran has changed nothing: the generation stays good.
      if ((await vm.state()) !== "paused") throw new Error("the VMM ended before its vCPUs ran");
      t.commit("consumed", {
        status: "running",
        consumed: 1,
        durable: 0,
        pid: vm.process.pid,
        pid_start: vm.process.startTime,
        agent_generation: row.agent_generation + 1,
        reason: "wake",
      });
    } catch (error) {
      actor.detach();
      await vm.kill();
      throw error;
    }
    await vm.resume();
    actor.enter("hot");
    t.reached("resumed");
  } catch (error) {
    if (!actor.vm) {
      actor.detach();
      deps.memoryPool.settle("sandboxes", row.engine_id);
      t.end();
    }
    throw error;
  }
  const guest = connect(actor);
  actor.needsConfigure = true;
  // After a rollback the memory may be that of another sandbox: hostname and machine-id are set again.
  const secrets = await actor.secretFiles.delivery(true);
  const { secretProblems } = await guest.configure(
    { ...identity(actor, rolledBack ? "clone" : "wake"), secretFiles: secrets.files },
    actor.alive(CONFIGURE_MS),
  );
  actor.secretFiles.took(secrets, secretProblems);
  actor.needsConfigure = false;
  actor.health.well();
  t.reached("configured");
  t.end();
  t.log({ generation: row.generation });
  await rm(oldState, { force: true });
}

/** What is wrong with the saved generation, for people; null when nothing is. */
async function whyNotRestorable(actor: Actor): Promise<string | null> {
  const { row, deps } = actor;
  if (row.fingerprint !== deps.engine.fingerprint()) {
    return "it was saved by another VMM version or on another CPU";
  }
  const spec = vmSpec(actor);
  try {
    deps.kernels.get(row.kernel);
  } catch {
    return "its kernel is no longer installed";
  }
  const size = await stat(spec.memoryPath).then(
    (s) => s.size,
    () => -1,
  );
  if (size !== row.memory_mb * 1024 * 1024) return "its memory file is missing or truncated";
  const sha = await sha256(statePath(actor)).catch(() => "");
  if (sha !== row.state_sha256) return "its state file is missing or damaged";
  return null;
}
