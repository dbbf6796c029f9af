import { expect, test } from "bun:test";
import { Metrics } from "./metrics.ts";

test("a scrape reads the figures once, and every gauge has its own", async () => {
  const metrics = new Metrics();
  let reads = 0;
  metrics.watch(() => {
    reads++;
    return {
      hot: reads,
      warm: 2,
      cold: 3,
      unresponsive: 0,
      memoryHeldBytes: 4,
      memoryBudgetBytes: 5,
      diskFreeBytes: 6,
      diskReservedBytes: 7,
      eventsDropped: 8,
      reserveFreeBytes: 9,
      reserveBytes: 10,
      diskPaused: 11,
    };
  });
  for (let scrape = 1; scrape <= 2; scrape++) {
    const text = await metrics.registry.metrics();
    expect(reads).toBe(scrape);
    expect(text).toContain(`\nbhatti_sandboxes_hot ${scrape}\n`);
    expect(text).toContain("\nbhatti_events_dropped_total 8\n");
    expect(text).toMatch(/\nprocess_resident_memory_bytes \d{6,}\n/);
  }
});
