/** The contract of engines, kept by Firecracker, where it is at hand and a guest boots under this host's KVM. */
import { afterAll, beforeAll, test } from "bun:test";
import { engineContract } from "../../src/engine/contract.ts";
import { createBench, FIRECRACKER } from "./engine-bench.ts";

if (FIRECRACKER) {
  let made: Awaited<ReturnType<typeof createBench>>;
  beforeAll(async () => {
    made = await createBench("firecracker");
  }, 300_000);
  afterAll(() => made?.close());
  engineContract("firecracker", () => made.bench);
} else {
  console.log(
    "SKIPPED: engine firecracker: BHATTI_FIRECRACKER_DIR names no folder with firecracker and jailer",
  );
  test.skip("engine firecracker: BHATTI_FIRECRACKER_DIR is not set", () => {});
}
