/** Figures for metrics and `admin status`, in one pass. */
import type { MemoryBudget } from "./memory.ts";
import type { Registry } from "./registry.ts";
import type { Sandboxes } from "./service.ts";

export function stats(registry: Registry, memory: MemoryBudget): ReturnType<Sandboxes["stats"]> {
  const count = { hot: 0, warm: 0, cold: 0, unresponsive: 0, diskPaused: 0 };
  for (const { row, thermal, stoppedFor } of registry.all()) {
    count[row.status === "stopped" ? "cold" : thermal]++;
    if (row.unresponsive_since) count.unresponsive++;
    if (stoppedFor) count.diskPaused++;
  }
  return {
    total: registry.size,
    ...count,
    memoryHeldBytes: memory.heldMb() * 1024 * 1024,
    memoryBudgetBytes: memory.budgetMb * 1024 * 1024,
  };
}
