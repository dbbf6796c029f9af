/** hot or warm → cold: device state is written, memory is already in its file, the VMM ends. */
import { rm } from "node:fs/promises";
import { isVmmSilent } from "../../engine/engine.ts";
import { sha256 } from "../../lib/hash.ts";
import type { Actor, Running } from "../actor.ts";
import { statePath, vmSpec } from "../vm-spec.ts";
import { Transition } from "./steps.ts";

/**
 * When it returns, the sandbox survives the death of daemon and VMM. Durability against a power cut follows in the
 * background (`makeDurable`). On failure the sandbox is as it was.
 */
export async function stop(actor: Actor, { vm, guest }: Running, reason: string): Promise<void> {
  const { row, deps } = actor;
  const was = actor.thermal;
  const t = new Transition(actor, "stop");
  const generation = row.generation + 1;
  const path = statePath(actor, generation);
  t.begin();
  let frozen = false;
  try {
    await deps.memoryPool.makeDir("sandboxes", row.engine_id);
    // One that stands still for want of disk space is saved as it is: running, it would go on writing.
    if (!actor.stoppedFor) {
      await vm.resume();
      // User processes stop here and start again only after the agent has set clock and entropy at the next wake.
      frozen = await guest.prepareClone(2000).then(
        () => true,
        () => false,
      );
    }
    t.reached("frozen");
    await vm.pause();
    t.reached("paused");
    await vm.saveState(path);
    t.reached("saved");
    const sha = await sha256(path);
    if ((await vm.state()) !== "paused")
      throw new Error("the VMM did not stay paused while its state was saved");
    t.commit("kill", {
      status: "stopped",
      reason,
      generation,
      consumed: 0,
      frozen: frozen ? 1 : 0,
      durable: 0,
      state_sha256: sha,
      boot_id: deps.bootId,
      fingerprint: deps.engine.fingerprint(),
      stopped_at: new Date().toISOString(),
      last_activity_at: new Date(actor.lastActivity).toISOString(),
    });
  } catch (error) {
    await rm(path, { force: true });
    if (!isVmmSilent(error)) await goOn(actor, was, frozen);
    t.end();
    throw error;
  }
  actor.detach();
  await vm.kill();
  deps.memoryPool.settle("sandboxes", row.engine_id);
  t.end({ pid: 0, pid_start: 0 });
  t.log({ reason, frozen });
  const event = { userId: row.created_by, sandboxId: row.id };
  deps.events.record({ ...event, type: "sandbox.stopped", meta: { name: row.name, reason } });
  if (reason !== "api")
    deps.events.record({ ...event, type: "thermal.snapshot", meta: { sandbox: row.name, reason } });
  actor.durable = makeDurable(actor, generation);
}

/** Puts a VM back to what it was before a stop or checkpoint that failed. */
export async function goOn(actor: Actor, was: "hot" | "warm" | "cold", frozen: boolean): Promise<void> {
  const vm = actor.vm;
  if (!vm) return;
  try {
    await vm.resume();
    if (frozen) await actor.guest?.resumeSource();
    if (was === "warm") await vm.pause();
    actor.enter(was);
  } catch (error) {
    actor.deps.log.error({ sandbox: actor.row.id, err: error }, "cannot resume after a failed transition");
  }
}

/** fsync of memory, state and disk; then the row says durable. */
async function makeDurable(actor: Actor, generation: number): Promise<void> {
  const { row, deps } = actor;
  const spec = vmSpec(actor);
  try {
    await deps.storage.sync([
      spec.memoryPath,
      statePath(actor, generation),
      ...spec.drives.map((drive) => drive.path),
    ]);
    if (!actor.gone && row.generation === generation && row.consumed === 0)
      deps.rows.update(row, { durable: 1 });
  } catch (error) {
    if (!actor.gone && row.consumed === 0)
      deps.log.warn({ sandbox: row.id, err: error }, "background sync failed");
  }
}
