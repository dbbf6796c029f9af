/** creating → hot. Clones a template (or snapshot), or boots when there is none. Everything is undone on failure. */
import { mkdir, stat } from "node:fs/promises";
import { hex, newToken } from "../../lib/ids.ts";
import type { CloneSource } from "../../templates/clone-source.ts";
import type { WaitingVm } from "../../templates/vm-pool.ts";
import type { Actor } from "../actor.ts";
import { memoryBytes, netOf, ownerOf, vmSpec } from "../vm-spec.ts";
import { BOOT_MS } from "./boot.ts";
import { bootFailure } from "./boot-failure.ts";
import { CONFIGURE_MS, connect, DISK_GROWTH, giveTo, identity, initOf, Transition } from "./steps.ts";

export interface CreateSource {
  /** null: cold boot from `image`. */
  clone: CloneSource | null;
  /** Root file system for a cold boot. */
  image: string;
  /** A VM that waits for an owner; its files and its namespace are the ones the row names. */
  waiting?: WaitingVm | null;
  /** Called when the VM runs: what fails from here on is no fault of the files it came from. */
  runs?: () => void;
  files: { path: string; content: string; mode: string }[];
}

/** The row (status creating) and its journal entry are already committed. Returns the step timings, ms. */
export async function create(actor: Actor, source: CreateSource): Promise<Record<string, number>> {
  const { row, deps } = actor;
  const t = new Transition(actor, "create");
  t.reached("begin");
  if (source.waiting) {
    // Its memory was counted with the waiting ones: it changes hands without a moment in between.
    deps.memory.adopt(row.id, row.memory_mb);
    deps.pool.handedOver(source.waiting);
  } else await deps.memory.reserve(row.id, row.memory_mb);
  await deps.memoryPool.promise("sandboxes", row.engine_id, memoryBytes(row), row.name);
  await deps.memoryPool.makeDir("sandboxes", row.engine_id);
  await mkdir(actor.dir, { recursive: true, mode: 0o700 });
  const spec = vmSpec(actor);
  const disk = spec.drives[0]!.path;
  const from = source.clone;
  const cloneFiles = async () => {
    if (source.waiting) return;
    if (from) {
      await Promise.all([
        deps.storage.clone(from.memory, spec.memoryPath),
        deps.storage.clone(`${from.dir}/disk`, disk),
      ]);
      await giveTo(row.uid, spec.memoryPath);
    } else {
      await deps.storage.clone(source.image, disk);
      if (row.disk_size_mb > 0) await deps.storage.growFile(disk, row.disk_size_mb);
    }
    await giveTo(row.uid, disk);
  };
  const settled = await Promise.allSettled([deps.network.attach(ownerOf(row), netOf(row)), cloneFiles()]);
  for (const part of settled) if (part.status === "rejected") throw part.reason;
  t.reached("prepared");
  deps.storage.reserve(DISK_GROWTH, row.name).release();

  const vm =
    source.waiting?.vm ??
    (from ? await deps.engine.restore(spec, `${from.dir}/state`) : await deps.engine.boot(spec));
  actor.attach(vm, "hot");
  // A VM that waited was not made for this sandbox's share of a CPU.
  if (source.waiting) await vm.limitCpus(row.cpus);
  t.reached("vmm");
  t.commit("vmm-known", { pid: vm.process.pid, pid_start: vm.process.startTime });
  if (from && row.disk_size_mb > 0) {
    const bytes = row.disk_size_mb * 1024 * 1024;
    if (bytes > (await stat(disk)).size) await vm.resizeDrive("root", bytes);
  }
  await vm.resume();
  source.runs?.();
  t.reached("running");

  row.token = from?.token ?? "";
  const guest = connect(actor);
  // A clone's agent listens already; a booting one is asked until it does.
  if (!from) {
    await guest.ready(BOOT_MS, actor.alive(BOOT_MS)).catch((error: unknown) => {
      throw bootFailure(actor, error, false);
    });
  }
  t.reached("agent");
  const token = newToken();
  row.agent_generation = (from?.agentGeneration ?? 0) + 1;
  const kind = from && from.kind !== "template" ? "clone" : "boot";
  const secrets = await actor.secretFiles.delivery(kind === "clone");
  const { secretProblems } = await guest.configure(
    {
      ...identity(actor, kind, token),
      files: source.files,
      secretFiles: secrets.files,
      ...(kind === "boot" ? await initOf(actor) : {}),
    },
    actor.alive(CONFIGURE_MS),
  );
  // A copy of a machine that works is not worth less for a path that its owner has used for something else.
  if (kind === "boot") actor.secretFiles.mustTake(secrets, secretProblems);
  else actor.secretFiles.took(secrets, secretProblems);
  row.token = token; // the guest client knows it already, and its connection stays good
  t.reached("configured");
  if ((await vm.state()) !== "running") throw new Error("the VM ended while it was created");
  deps.network.setName(ownerOf(row), netOf(row), row.name);
  t.end({
    status: "running",
    token,
    agent_generation: row.agent_generation,
    last_activity_at: new Date().toISOString(),
    fingerprint: deps.engine.fingerprint(),
  });
  t.log({ from: row.created_from });
  return { ...t.trace.steps, total: t.trace.total() };
}

/** 32 hex digits for /etc/machine-id. */
export const newMachineId = (): string => hex(16);
