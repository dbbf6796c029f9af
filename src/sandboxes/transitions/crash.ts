/** The machine ended by itself: power-off, reboot, panic, out of memory, somebody's SIGKILL. */
import { rm } from "node:fs/promises";
import type { VmExit } from "../../engine/engine.ts";
import type { Actor } from "../actor.ts";
import { endOf } from "../end.ts";
import type { SandboxRow } from "../rows.ts";
import { memoryPath, statePath } from "../vm-spec.ts";

/**
 * The disk is kept; the memory is gone and the row says so. A reboot boots it again, as does keep_hot after anything but a
 * power-off; otherwise the next request does.
 */
export async function crashed(actor: Actor, exit: VmExit): Promise<void> {
  const { row, deps } = actor;
  if (actor.gone || row.status !== "running" || actor.vm) return;
  const { reason, why } = endOf(exit);
  deps.rows.store.transaction(() => {
    deps.rows.end(row.id);
    deps.rows.update(row, { ...ended(reason, why), reason, stopped_at: new Date().toISOString() });
  });
  actor.detach();
  const log = reason === "poweroff" || reason === "reboot" ? "info" : "warn";
  deps.log[log](
    {
      sandbox: row.id,
      reason,
      why,
      code: exit.code,
      stderr: exit.stderrTail.slice(-2000),
      console: exit.consoleTail.slice(-2000),
    },
    "VM ended",
  );
  deps.events.record({
    type: `sandbox.${reason}`,
    userId: row.created_by,
    sandboxId: row.id,
    meta: { name: row.name, why, exit_code: exit.code },
  });
  for (const file of [statePath(actor), memoryPath(actor)]) await rm(file, { force: true });
  deps.memoryPool.settle("sandboxes", row.engine_id);
  if (reason === "reboot" || (row.keep_hot === 1 && reason !== "poweroff")) {
    const ranMs = Date.now() - actor.startedAt;
    const wait = actor.comeback.schedule(ranMs, () => {
      if (actor.gone) return;
      actor.ensureHot().catch((err) => deps.log.warn({ sandbox: row.id, err }, "boot after its end failed"));
    });
    if (wait > 0) deps.log.warn({ sandbox: row.id, wait }, "it ended soon after its boot: waiting");
  }
}

/** What a row says of a machine whose memory is gone. */
export const ended = (reason: string, why: string): Partial<SandboxRow> => ({
  status: "stopped",
  consumed: 1,
  frozen: 0,
  durable: 0,
  pid: 0,
  pid_start: 0,
  unresponsive_since: "",
  unresponsive_why: "",
  last_end: JSON.stringify({ reason, why, at: new Date().toISOString() }),
});
