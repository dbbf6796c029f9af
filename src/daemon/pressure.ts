/** Watches the host's free memory: when it runs low, the longest-idle warm sandboxes go cold. */
import type { Logger } from "pino";
import { hostMemory } from "../sandboxes/memory.ts";

/** Looked at this often, ms. One small read of /proc. */
const PERIOD_MS = 5000;
/** Below this share of total memory the host is under pressure. */
const LOW_SHARE = 0.08;

/** Returns the function that ends the watch. */
export function watchPressure(evictOne: () => Promise<boolean>, log: Logger, read = hostMemory): () => void {
  let busy = false;
  const timer = setInterval(async () => {
    if (busy) return;
    busy = true;
    try {
      for (let i = 0; i < 16; i++) {
        const { totalMb, availableMb } = read();
        if (availableMb >= totalMb * LOW_SHARE) break;
        log.warn({ availableMb, totalMb }, "host memory is low");
        if (!(await evictOne())) break;
      }
    } catch (err) {
      log.error({ err }, "memory watch failed");
    } finally {
      busy = false;
    }
  }, PERIOD_MS);
  timer.unref();
  return () => clearInterval(timer);
}
