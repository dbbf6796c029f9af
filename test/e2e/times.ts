/** Files that are changed behind the product's back. */
import { rmSync } from "node:fs";
import { run } from "../../src/lib/run.ts";

/** Changes a file; its times are afterwards what they were, to the nanosecond (which `utimes` of a Date is not). */
export async function keepingTimes(path: string, change: () => void): Promise<void> {
  const before = `/tmp/bhatti-times-${process.pid}`;
  await run(["touch", "-r", path, before]);
  change();
  await run(["touch", "-r", before, path]);
  rmSync(before);
}
