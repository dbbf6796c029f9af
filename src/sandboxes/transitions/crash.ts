/** The VMM ended by itself: guest power-off or reboot, kernel panic, OOM kill, somebody's SIGKILL. */
import { rm } from "node:fs/promises";
import type { VmExit } from "../../engine/engine.ts";
import type { Actor } from "../actor.ts";
import { statePath } from "../vm-spec.ts";

/** The disk is kept; the memory is gone and the row says so. The next request boots it. */
export async function crashed(actor: Actor, exit: VmExit): Promise<void> {
  const { row, deps } = actor;
  if (actor.gone || row.status !== "running" || actor.vm) return;
  const reason = exit.code === 0 ? "poweroff" : "crashed";
  deps.rows.store.transaction(() => {
    deps.rows.end(row.id);
    deps.rows.update(row, {
      status: "stopped",
      reason,
      consumed: 1,
      durable: 0,
      pid: 0,
      pid_start: 0,
      stopped_at: new Date().toISOString(),
    });
  });
  actor.detach();
  await rm(statePath(actor), { force: true });
  deps.log.warn(
    { sandbox: row.id, reason, code: exit.code, stderr: exit.stderrTail, console: exit.consoleTail },
    "VM ended",
  );
  deps.events.record({
    type: `sandbox.${reason}`,
    userId: row.created_by,
    sandboxId: row.id,
    meta: { name: row.name, exit_code: exit.code },
  });
  if (row.keep_hot === 1) {
    setTimeout(
      () => actor.ensureHot().catch((err) => deps.log.warn({ sandbox: row.id, err }, "keep_hot wake failed")),
      1000,
    ).unref();
  }
}
