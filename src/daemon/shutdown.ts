/** How the daemon ends. Running VMs outlive it, except when the host itself goes down. */
import type { Logger } from "pino";
import type { SandboxService } from "../sandboxes/sandboxes.ts";

/** True when the service manager is taking the host down. */
export async function hostIsStopping(): Promise<boolean> {
  try {
    const child = Bun.spawn(["systemctl", "is-system-running"], { stdout: "pipe", stderr: "ignore" });
    return (await new Response(child.stdout).text()).trim() === "stopping";
  } catch {
    return false;
  }
}

/** Puts every running sandbox to cold and on disk, longest idle first, until the deadline. Returns how many are left. */
export async function freezeAll(service: SandboxService, deadlineMs: number, log: Logger): Promise<number> {
  const end = Date.now() + deadlineMs;
  const queue = [...service.registry.all()]
    .filter((actor) => actor.thermal !== "cold")
    .sort((a, b) => a.lastActivity - b.lastActivity);
  const worker = async () => {
    for (let actor = queue.shift(); actor; actor = queue.shift()) {
      const left = end - Date.now();
      if (left <= 0) return;
      const one = actor;
      const work = one.stop("shutdown", 0).then(() => one.durable);
      const timeout = Bun.sleep(left).then(() => Promise.reject(new Error("shutdown deadline")));
      await Promise.race([work, timeout]).catch((err) =>
        log.error({ sandbox: one.row.id, err }, "not saved at shutdown"),
      );
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  return [...service.registry.all()].filter((actor) => actor.thermal !== "cold").length;
}
