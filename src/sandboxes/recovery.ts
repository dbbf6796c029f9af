/**
 * What a new daemon does with the work of the former one: finishes or undoes what the journal says was in flight, adopts
 * the VMs that still run, and tells the truth about those that do not. Each sandbox is recovered in its own queue: one that
 * takes long, or cannot be recovered, delays neither the others nor the start.
 */
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { Actor } from "./actor.ts";
import { type AdoptionLimits, adoptOrLose, endProcesses, lose } from "./adoption.ts";
import type { SandboxDeps } from "./deps.ts";
import type { JournalRow, SandboxRow } from "./rows.ts";
import type { SandboxService } from "./sandboxes.ts";
import { destroy } from "./transitions/destroy.ts";
import { transitions } from "./transitions/transitions.ts";

type Outcome = "adopted" | "cold" | "lost" | "undone";

/** Counts for the log line of the start. `pending`: still at work when the API began to answer; their requests wait. */
export type Recovered = Record<Outcome | "pending", number>;

export interface RecoveryLimits extends AdoptionLimits {
  /** How long the API waits for all of them, ms. */
  startMs: number;
}

const LIMITS: RecoveryLimits = { startMs: 15_000, giveUpMs: 120_000, answerMs: 10_000, retryMs: 30_000 };

/** Runs before the API answers. `network.start` has already kept the networks of all rows. */
export async function recover(service: SandboxService, limits = LIMITS): Promise<Recovered> {
  const { deps, registry } = service;
  const rows = deps.rows.all();
  const actors = rows.map((row) => new Actor(deps, row, transitions));
  for (const actor of actors) {
    registry.add(actor);
    actor.lastActivity = Date.parse(actor.row.last_activity_at) || Date.now();
  }
  // One look at /proc, however many rows there are. Who has no row, or one that says it does not run, ends here.
  const { from, to } = deps.network.uids();
  const live = deps.engine.liveUids(from, to);
  const mayRun = new Set(rows.filter((row) => row.status === "running" && row.pid).map((row) => row.uid));
  const stubborn = await deps.engine.killUids([...live].filter((uid) => !mayRun.has(uid)));
  const lost = new Set<Actor>();
  deps.rows.store.transaction(() => {
    for (const actor of actors) {
      const why = whyLost(actor, live);
      if (why) {
        lose(actor, why);
        lost.add(actor);
      } else if (actor.row.status === "stopped" && actor.row.pid) {
        deps.rows.update(actor.row, { pid: 0, pid_start: 0 });
      }
    }
  });
  await removeForeignDirectories(deps, rows);

  const journal = new Map(deps.rows.journal().map((entry) => [entry.sandbox_id, entry]));
  const result: Recovered = { adopted: 0, cold: 0, lost: 0, undone: 0, pending: actors.length };
  const work = actors.map(async (actor) => {
    const entry = journal.get(actor.row.id) ?? null;
    try {
      const found = await actor.run(() => one(service, actor, entry, stubborn, limits));
      result[lost.has(actor) ? "lost" : found]++;
      result.pending--;
    } catch (err) {
      deps.log.error({ sandbox: actor.row.id, err }, "a sandbox could not be recovered");
    }
    actor.idle.arm();
    if (entry?.op === "restart" && !actor.gone) {
      const options = JSON.parse(entry.detail) as { force: boolean; reason: string };
      actor.restart(options).catch((err) => deps.log.warn({ sandbox: actor.row.id, err }, "restart failed"));
    } else if (wantsHot(actor))
      actor.ensureHot().catch((err) => deps.log.warn({ sandbox: actor.row.id, err }, "wake at start failed"));
  });
  await Promise.race([Promise.all(work), Bun.sleep(limits.startMs)]);
  return { ...result };
}

/** The part of one sandbox's recovery that takes time; in its own queue, before every request to it. */
async function one(
  { deps, registry }: SandboxService,
  actor: Actor,
  entry: JournalRow | null,
  stubborn: Set<number>,
  limits: RecoveryLimits,
): Promise<Outcome> {
  const { row } = actor;
  if (row.status === "creating" || row.status === "destroying") {
    while (!(await finished(actor, () => destroy(actor)))) await Bun.sleep(limits.retryMs);
    registry.remove(actor);
    return "undone";
  }
  if (stubborn.has(row.uid)) await endProcesses(actor, limits);
  const outcome = row.status === "running" ? await adoptOrLose(actor, entry, limits) : "cold";
  if (entry) deps.rows.end(row.id);
  await finished(actor, () => sweep(actor));
  return outcome;
}

/** Why nothing of the machine's memory is left; null when that is not so, or must be asked. */
function whyLost({ row, deps }: Actor, live: Set<number>): string | null {
  if (row.status === "running" && !live.has(row.uid)) return "the VM ended while the daemon was away";
  const onlyInMemory = row.status === "stopped" && row.consumed === 0 && row.durable === 0;
  return onlyInMemory && row.boot_id !== deps.bootId
    ? "the host went down before the saved memory was on disk"
    : null;
}

/** On its way up again when the daemon ended. */
const COMING = new Set(["reboot", "restart", "unresponsive"]);

/** Powered off from inside, it stays so. */
function wantsHot({ row, thermal, gone }: Actor): boolean {
  if (gone || thermal === "hot") return false;
  if (row.status === "stopped" && COMING.has(row.reason)) return true;
  return row.keep_hot === 1 && row.reason !== "poweroff";
}

async function finished(actor: Actor, work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (err) {
    actor.deps.log.error({ sandbox: actor.row.id, err }, "recovery of a sandbox failed");
    return false;
  }
}

/** Removes files of the sandbox's directory that the row does not mention: halves of what was interrupted. */
async function sweep(actor: Actor): Promise<void> {
  const { row } = actor;
  const keep = new Set([row.disk_file, row.mem_file]);
  if (row.consumed === 0) keep.add(`state.${row.generation}`);
  const { memoryPool } = actor.deps;
  const here = memoryPool.dir("sandboxes", row.engine_id);
  // Of a file that was on its way in or out, the one in the reserve counts.
  for (const dir of [here, actor.dir])
    for (const name of await readdir(dir).catch(() => []))
      if (
        /^(disk|mem|state)\./.test(name) &&
        (!keep.has(name) || (dir !== here && existsSync(`${here}/${name}`)))
      )
        await rm(`${dir}/${name}`, { recursive: true, force: true });
  if (!actor.vm) memoryPool.settle("sandboxes", row.engine_id);
}

/** Directories without a row: what a create or template build left when the daemon died. */
async function removeForeignDirectories(deps: SandboxDeps, rows: SandboxRow[]): Promise<void> {
  const root = `${deps.config.dataDir}/sandboxes`;
  const known = new Set(rows.map((row) => row.engine_id));
  for (const name of await readdir(root).catch(() => [])) {
    if (!known.has(name)) await rm(`${root}/${name}`, { recursive: true, force: true });
  }
  await deps.memoryPool.sweep("sandboxes", known);
}
