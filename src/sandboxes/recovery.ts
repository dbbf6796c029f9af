/**
 * What a new daemon does with the work of the former one: finishes or undoes what the journal says was in flight, adopts
 * the VMs that still run, and tells the truth about those that do not. Afterwards nothing is 'unknown'.
 */
import { readdir, rm } from "node:fs/promises";
import { Actor } from "./actor.ts";
import type { JournalRow, SandboxRow } from "./rows.ts";
import type { SandboxService } from "./sandboxes.ts";
import { destroy } from "./transitions/destroy.ts";
import { connect } from "./transitions/steps.ts";
import { transitions } from "./transitions/transitions.ts";
import { vmSpec } from "./vm-spec.ts";

/** Counts for the log line of the start. */
export interface Recovered {
  adopted: number;
  cold: number;
  lost: number;
  undone: number;
}

/** Runs before the API answers. `network.start` has already kept the networks of all rows. */
export async function recover(service: SandboxService): Promise<Recovered> {
  const { deps, registry } = service;
  const result: Recovered = { adopted: 0, cold: 0, lost: 0, undone: 0 };
  const uids = deps.network.uids();
  await deps.engine.killStrays(uids.from, uids.to, new Set(deps.rows.all().map((row) => row.uid)));
  const journal = new Map(deps.rows.journal().map((entry) => [entry.sandbox_id, entry]));
  for (const row of deps.rows.all()) {
    const actor = new Actor(deps, row, transitions);
    const entry = journal.get(row.id) ?? null;
    if (row.status === "creating" || row.status === "destroying") {
      await destroy(actor);
      result.undone++;
      continue;
    }
    registry.add(actor);
    actor.lastActivity = Date.parse(row.last_activity_at) || Date.now();
    result[await recoverOne(actor, entry)]++;
    deps.rows.end(row.id);
    await sweep(actor);
  }
  await removeForeignDirectories(service);
  for (const actor of registry.all()) {
    actor.idle.arm();
    if (actor.row.keep_hot === 1 && actor.thermal !== "hot") {
      void actor
        .ensureHot()
        .catch((err) => deps.log.warn({ sandbox: actor.row.id, err }, "keep_hot wake failed"));
    }
  }
  return result;
}

async function recoverOne(actor: Actor, entry: JournalRow | null): Promise<"adopted" | "cold" | "lost"> {
  const { row, deps } = actor;
  if (row.status === "stopped") {
    // A stop that was committed, a start that was not, a boot that did not finish: no VMM may live.
    await deps.engine.killUid(row.uid);
    deps.rows.update(row, { pid: 0, pid_start: 0 });
    if (row.consumed === 0 && row.durable === 0 && row.boot_id !== deps.bootId) {
      lose(actor, "the host went down before the saved memory was on disk");
      return "lost";
    }
    return "cold";
  }
  const vm = row.pid
    ? await deps.engine.adopt(vmSpec(actor), { pid: row.pid, startTime: row.pid_start }).catch(() => null)
    : null;
  if (!vm) {
    await deps.engine.killUid(row.uid);
    lose(actor, "the VM ended while the daemon was away");
    return "lost";
  }
  const state = await vm.state();
  deps.memory.adopt(row.id, row.memory_mb);
  connect(actor);
  // Paused by idleness stays warm. Paused in the middle of a transition goes on: it was running for its user.
  const interrupted = entry !== null && entry.op !== "destroy";
  actor.attach(vm, state === "paused" ? "warm" : "hot");
  if (interrupted) {
    await vm.resume();
    actor.enter("hot");
    await actor.guest!.resumeSource().catch(() => {});
    actor.needsConfigure = entry.op === "start";
  }
  return "adopted";
}

function lose(actor: Actor, why: string): void {
  const { row, deps } = actor;
  const patch: Partial<SandboxRow> = {
    status: "stopped",
    consumed: 1,
    durable: 0,
    pid: 0,
    pid_start: 0,
    reason: "memory_lost",
    stopped_at: row.stopped_at || new Date().toISOString(),
  };
  deps.rows.update(row, patch);
  deps.log.warn({ sandbox: row.id, why }, "memory lost; the sandbox will boot from its disk");
  deps.events.record({
    type: "sandbox.memory_lost",
    userId: row.created_by,
    sandboxId: row.id,
    meta: { name: row.name, reason: why },
  });
}

/** Removes files of the sandbox's directory that the row does not mention: halves of what was interrupted. */
async function sweep(actor: Actor): Promise<void> {
  const { row } = actor;
  const keep = new Set([row.disk_file, row.mem_file, "vm", "vmm.log"]);
  if (row.consumed === 0) keep.add(`state.${row.generation}`);
  for (const name of await readdir(actor.dir).catch(() => [])) {
    if (/^(disk|mem|state)\./.test(name) && !keep.has(name))
      await rm(`${actor.dir}/${name}`, { recursive: true, force: true });
  }
}

/** Directories without a row: what a create or template build left when the daemon died. */
async function removeForeignDirectories(service: SandboxService): Promise<void> {
  const { deps, registry } = service;
  const root = `${deps.config.dataDir}/sandboxes`;
  const known = new Set([...registry.all()].map((actor) => actor.row.engine_id));
  for (const name of await readdir(root).catch(() => [])) {
    if (!known.has(name)) await rm(`${root}/${name}`, { recursive: true, force: true });
  }
}
