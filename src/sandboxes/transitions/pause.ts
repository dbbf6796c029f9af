import type { Actor, Running } from "../actor.ts";

/** hot → warm: vCPUs stop, memory stays. Not journalled: recovery asks the VMM. */
export async function pause(actor: Actor, { vm }: Running, reason: string): Promise<void> {
  const began = performance.now();
  await vm.pause();
  actor.enter("warm");
  actor.deps.rows.update(actor.row, { last_activity_at: new Date(actor.lastActivity).toISOString(), reason });
  const ms = performance.now() - began;
  actor.deps.metrics.transition("pause", ms);
  actor.deps.log.info({ sandbox: actor.row.id, transition: "pause", ms }, "transition");
  actor.deps.events.record({
    type: "thermal.pause",
    userId: actor.row.created_by,
    sandboxId: actor.row.id,
    meta: { sandbox: actor.row.name, reason, idle_s: Math.round((Date.now() - actor.lastActivity) / 1000) },
  });
}
