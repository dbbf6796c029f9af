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
  const files = Promise.all([
    rm(actor.dir, { recursive: true, force: true }),
    deps.memoryPool.remove("sandboxes", row.engine_id),
  ]);
  files.catch(() => {});
  // The row names slot, uid and address: it is gone before another sandbox can get them. A new row would not go in beside
  // it, and a daemon that finds it half destroyed ends every process of that uid.
  await deps.network.release(ownerOf(row), netOf(row), async () => {
    await files;
    t.reached("removed");
    deps.rows.store.transaction(() => deps.rows.delete(row.id));
  });
  t.log();
  t.reached("end");
}
