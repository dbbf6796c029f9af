/** The contract of engines, kept by QEMU. */
import { afterAll, beforeAll } from "bun:test";
import { engineContract } from "../../src/engine/contract.ts";
import { createBench } from "./engine-bench.ts";

let made: Awaited<ReturnType<typeof createBench>>;

beforeAll(async () => {
  made = await createBench();
}, 300_000);
afterAll(() => made?.close());

engineContract("qemu", () => made.bench);
