/** cold → hot without memory: an ordinary boot from the sandbox's own disk. */
import { rm } from "node:fs/promises";
import { newToken } from "../../lib/ids.ts";
import type { Actor } from "../actor.ts";
import { memoryBytes, memoryPath, netOf, ownerOf, statePath, vmSpec } from "../vm-spec.ts";
import { bootFailed, bootFailure } from "./boot-failure.ts";
import { connect, identity, initOf, Transition } from "./steps.ts";

/** How long a boot may take until the agent answers, ms: generous, emulated machines are slow. */
export const BOOT_MS = 120_000;

/** Reasons for a boot that the row goes on telling. */
const TOLD = new Set(["memory_lost", "reboot", "restart", "unresponsive", "panic", "oom", "crashed"]);

export async function bootFromDisk(actor: Actor): Promise<void> {
  const { row, deps } = actor;
  const t = new Transition(actor, "boot");
  await deps.memory.reserve(row.id, row.memory_mb);
  const oldMemory = memoryPath(actor);
  const oldState = statePath(actor);
  const because = row.reason;
  const generation = row.generation + 1;
  try {
    await deps.memoryPool.promise("sandboxes", row.engine_id, memoryBytes(row), row.name);
    await deps.memoryPool.makeDir("sandboxes", row.engine_id);
    t.begin({
      mem_file: `mem.${generation}`,
      generation,
      consumed: 1,
      kernel: deps.kernels.current().version,
    });
    await rm(oldMemory, { force: true });
    await rm(oldState, { force: true });
    await deps.network.attach(ownerOf(row), netOf(row));
    await deps.network.flush(netOf(row));
    t.reached("network");
    const vm = await deps.engine.boot(vmSpec(actor));
    actor.attach(vm, "hot");
    t.commit("booted", { pid: vm.process.pid, pid_start: vm.process.startTime });
    row.token = "";
    const guest = connect(actor);
    await guest.ready(BOOT_MS, actor.alive(BOOT_MS));
    t.reached("agent");
    const token = newToken();
    deps.rows.update(row, { token, agent_generation: row.agent_generation + 1 });
    const secrets = await actor.secretFiles.delivery(false);
    const { secretProblems } = await guest.configure(
      { ...identity(actor, "boot", token), secretFiles: secrets.files, ...(await initOf(actor)) },
      actor.alive(BOOT_MS),
    );
    actor.secretFiles.took(secrets, secretProblems);
    connect(actor);
    t.end({
      status: "running",
      last_error: "",
      reason: TOLD.has(because) ? because : "boot",
      ...(row.init ? { init_status: "" } : {}),
    });
  } catch (error) {
    const failure = bootFailure(actor, error);
    const vm = actor.vm;
    actor.detach();
    await vm?.kill();
    deps.memoryPool.settle("sandboxes", row.engine_id);
    const told = bootFailed(failure);
    t.end(told);
    if (told.reason) {
      const meta = { name: row.name, why: (failure as Error).message.split("\n")[0] };
      const subject = { userId: row.created_by, sandboxId: row.id };
      deps.events.record({ type: "sandbox.failed", ...subject, meta });
    }
    throw failure;
  }
  t.log();
}
