/** Any state → hot by a boot from the disk: what is left for a guest that is sick, and for memory that cannot run. */
import { rm } from "node:fs/promises";
import type { Actor } from "../actor.ts";
import { memoryPath, statePath } from "../vm-spec.ts";
import { bootFromDisk } from "./boot.ts";
import { ended } from "./crash.ts";
import { restore } from "./restore.ts";
import { Transition } from "./steps.ts";

/** Time for the guest's processes between TERM and KILL, and for the whole of its shut-down, ms. */
const GRACE_MS = 10_000;
const SHUTDOWN_MS = 25_000;

export interface RestartOptions {
  /** Do not ask the guest: as if the power was cut. */
  force: boolean;
  /** For row, event and log: "restart", "unresponsive". */
  reason: string;
}

/** Until `off` is committed nothing is given up; from then on it is a sandbox that was switched off, and boots. */
export async function restart(actor: Actor, { force, reason }: RestartOptions): Promise<void> {
  const { row, deps } = actor;
  const t = new Transition(actor, "restart");
  t.begin({}, { force, reason });
  const clean = !force && (await shutDown(actor).catch(() => false));
  t.reached("shut-down");
  const vm = actor.vm;
  const old = [statePath(actor), memoryPath(actor)];
  const why = clean ? "it was shut down to boot again" : "it was switched off to boot again";
  const { pid, pid_start, ...off } = ended(reason, why);
  t.commit(
    "off",
    { ...off, reason, last_error: "", stopped_at: new Date().toISOString() },
    { force, reason },
  );
  actor.detach();
  await vm?.kill();
  t.reached("killed");
  t.end({ pid, pid_start });
  for (const file of old) await rm(file, { force: true });
  deps.memoryPool.settle("sandboxes", row.engine_id);
  t.log({ clean, reason });
  actor.lastActivity = Date.now();
  const meta = { name: row.name, reason, clean };
  deps.events.record({ type: "sandbox.restarted", userId: row.created_by, sandboxId: row.id, meta });
  await actor.comingUp(() => bootFromDisk(actor));
}

/**
 * Asks the guest to end everything and to write what is not on its disk yet; true when it has. A cold one is woken for it:
 * what its programs wrote may be in its memory only.
 */
async function shutDown(actor: Actor): Promise<boolean> {
  const { row } = actor;
  if (!actor.vm) {
    if (row.consumed === 1 || row.last_error || row.unresponsive_since) return false;
    await actor.comingUp(() => restore(actor));
  }
  const vm = actor.vm;
  if (!vm || !actor.guest) return false;
  if (actor.thermal === "warm") await vm.resume();
  await actor.guest.poweroff(GRACE_MS);
  return Promise.race([vm.exited.then(() => true), Bun.sleep(SHUTDOWN_MS).then(() => false)]);
}
