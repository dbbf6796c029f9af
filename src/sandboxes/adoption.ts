/** A VM that ran on while no daemon was there: taken over again, however long it takes to answer, or lost for a true reason. */
import { EngineError, isVmmSilent, type Vm } from "../engine/engine.ts";
import type { Actor } from "./actor.ts";
import { VMM_SILENT } from "./health.ts";
import type { JournalRow, SandboxRow } from "./rows.ts";
import { connect } from "./transitions/steps.ts";
import { memoryBytes, vmSpec } from "./vm-spec.ts";

export interface AdoptionLimits {
  /** How long a VM that runs is asked again and again until it is given up and boots from its disk, ms. */
  giveUpMs: number;
  /** How long it may take to answer once, ms. */
  answerMs: number;
  /** Between attempts at what failed, ms. */
  retryMs: number;
}

/** A busy host makes a VMM silent; it does not make it talk nonsense. */
const NONSENSE = 3;
const PAUSE_MS = 500;
/** Requests wait for a VMM that answers late; from here on it is called unresponsive, and they fail, ms. */
const SICK_MS = 15_000;

/** In the actor's queue: whoever wants the sandbox waits. Never throws for what a VMM does. */
export async function adoptOrLose(
  actor: Actor,
  entry: JournalRow | null,
  limits: AdoptionLimits,
): Promise<"adopted" | "lost"> {
  const { row, deps } = actor;
  // What it holds counts from the first moment: it runs.
  deps.memory.adopt(row.id, row.memory_mb);
  deps.memoryPool.adopt("sandboxes", row.engine_id, memoryBytes(row));
  actor.enter("hot");
  const began = Date.now();
  let nonsense = 0;
  let why = "the VM ended while the daemon was away";
  while (!actor.gone) {
    try {
      const identity = { pid: row.pid, startTime: row.pid_start };
      const vm = await deps.engine.adopt(vmSpec(actor), identity, limits.answerMs);
      if (!vm) break;
      await takeOver(actor, vm, entry);
      actor.health.adopted();
      return "adopted";
    } catch (err) {
      deps.log.warn({ sandbox: row.id, pid: row.pid, err }, "a VM that runs could not be adopted yet");
      if (isVmmSilent(err) && Date.now() - began > SICK_MS) actor.health.ill(VMM_SILENT);
      const kind = err instanceof EngineError ? err.why : "failed";
      const message = err instanceof Error ? err.message : String(err);
      const seconds = Math.round((Date.now() - began) / 1000);
      // That it is gone now says nothing: what it did before is why.
      if (kind !== "gone") why = `the VM ran, but could not be taken over within ${seconds} s: ${message}`;
      if (kind === "nonsense") nonsense++;
      if (nonsense >= NONSENSE || Date.now() - began > limits.giveUpMs) break;
    }
    await Bun.sleep(PAUSE_MS);
  }
  await endProcesses(actor, limits);
  // Who destroyed it meanwhile does not want to hear of its memory.
  if (!actor.gone) lose(actor, why);
  return "lost";
}

/** Attaches a VM that answers. Throws when it does not; the VM is let go of and runs on. */
async function takeOver(actor: Actor, vm: Vm, entry: JournalRow | null): Promise<void> {
  // Paused by idleness stays warm. Paused in the middle of a transition goes on: it was running for its user.
  const interrupted = entry !== null && entry.op !== "destroy";
  let state: string;
  try {
    state = await vm.state();
    if (interrupted && state !== "exited") await vm.resume();
  } catch (error) {
    vm.leave();
    throw error;
  }
  const guest = connect(actor);
  actor.attach(vm, state === "paused" && !interrupted ? "warm" : "hot");
  // It powered off, rebooted or panicked while nobody looked: the actor has been told, as always.
  if (state === "exited") await vm.exited;
  if (!interrupted || state === "exited") return;
  await guest.resumeSource().catch(() => {});
  actor.needsConfigure = entry.op === "start";
}

/** Returns when no process of the sandbox's user is left: nothing may start as that user before. */
export async function endProcesses(actor: Actor, limits: AdoptionLimits): Promise<void> {
  while ((await actor.deps.engine.killUids([actor.row.uid])).size > 0) {
    actor.deps.log.error({ sandbox: actor.row.id, uid: actor.row.uid }, "processes of a sandbox do not end");
    await Bun.sleep(limits.retryMs);
  }
}

/** The machine's memory is gone: the row says so, and the next request boots the sandbox from its disk. */
export function lose(actor: Actor, why: string): void {
  const { row, deps } = actor;
  const patch: Partial<SandboxRow> = {
    status: "stopped",
    consumed: 1,
    durable: 0,
    pid: 0,
    pid_start: 0,
    reason: "memory_lost",
    unresponsive_since: "",
    unresponsive_why: "",
    last_end: JSON.stringify({ reason: "memory_lost", why, at: new Date().toISOString() }),
    stopped_at: row.stopped_at || new Date().toISOString(),
  };
  deps.rows.update(row, patch);
  actor.detach();
  deps.log.warn({ sandbox: row.id, why }, "memory lost; the sandbox will boot from its disk");
  deps.events.record({
    type: "sandbox.memory_lost",
    userId: row.created_by,
    sandboxId: row.id,
    meta: { name: row.name, reason: why },
  });
}
