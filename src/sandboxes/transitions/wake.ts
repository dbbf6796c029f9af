/** Any state → hot. The only wake path of the product. */
import { engineOf } from "../../engine/engine.ts";
import { AppError } from "../../lib/errors.ts";
import type { Actor } from "../actor.ts";
import { lose } from "../adoption.ts";
import { forceStart } from "../refusals.ts";
import { bootFromDisk } from "./boot.ts";
import { restore } from "./restore.ts";
import { CONFIGURE_MS, connect, identity } from "./steps.ts";

const HURRY_MS = 5000;

export async function wake(actor: Actor): Promise<void> {
  const { deps, row } = actor;
  const began = performance.now();
  const from = actor.thermal;
  if (actor.vm && actor.thermal === "warm") {
    await actor.vm.resume();
    actor.enter("hot");
  }
  if (actor.vm && actor.needsConfigure) await configureAgain(actor);
  let boot = false;
  if (!actor.vm) {
    if (row.last_error) {
      throw new AppError(
        "restore_failed",
        `${row.last_error}; use 'bhatti start --force' to boot it from its disk`,
        {
          remedy: forceStart(row.name),
        },
      );
    }
    // The server was switched to another engine since.
    if (row.consumed === 0 && engineOf(row.fingerprint) !== deps.engine.name)
      lose(
        actor,
        `it slept under ${engineOf(row.fingerprint)}, and this server runs ${deps.engine.name} now`,
      );
    boot = row.consumed === 1;
    await actor.comingUp(() => (boot ? bootFromDisk(actor) : restore(actor)));
  }
  const ms = performance.now() - began;
  if (from === "hot") return;
  actor.lastActivity = Date.now();
  deps.metrics.wake(boot ? "boot" : from, ms);
  if (from === "warm") deps.log.info({ sandbox: row.id, transition: "resume", ms }, "transition");
  deps.events.record({
    type: "thermal.wake",
    userId: row.created_by,
    sandboxId: row.id,
    meta: { sandbox: row.name, from_state: from, booted: boot, wake_ms: Math.round(ms) },
  });
}

/** The VM runs, but an earlier identity call got no answer. */
async function configureAgain(actor: Actor): Promise<void> {
  const guest = connect(actor);
  // One that is known to be silent is not waited for again and again.
  const ms = actor.health.sick ? HURRY_MS : CONFIGURE_MS;
  const secrets = await actor.secretFiles.delivery(true);
  await guest.configure({ ...identity(actor, "wake"), secretFiles: secrets.files }, actor.alive(ms));
  // The agent may have acknowledged an earlier call with an earlier set.
  actor.secretFiles.changed();
  actor.needsConfigure = false;
  actor.health.well();
  actor.deps.rows.end(actor.row.id);
}
