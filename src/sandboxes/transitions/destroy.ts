import { rm } from "node:fs/promises";
import type { Actor } from "../actor.ts";
import { netOf, ownerOf } from "../vm-spec.ts";
import { Transition } from "./steps.ts";

/** Ends the VM and removes everything of the sandbox. Works from the row alone: also after a crash, in any state. */
export async function destroy(actor: Actor): Promise<void> {
  const { row, deps } = actor;
  const t = new Transition(actor, "destroy");
  t.begin({ status: "destroying" });
  const vm = actor.vm;
  actor.detach();
  if (vm) await vm.kill();
  else if ((await deps.engine.killUids([row.uid])).size > 0)
    throw new Error(`processes of uid ${row.uid} do not end`);
  t.reached("killed");
  await Promise.all([
    deps.network.release(ownerOf(row), netOf(row)),
    rm(actor.dir, { recursive: true, force: true }),
    deps.memoryPool.remove("sandboxes", row.engine_id),
  ]);
  t.reached("removed");
  deps.rows.store.transaction(() => deps.rows.delete(row.id));
  t.log();
  t.reached("end");
}
