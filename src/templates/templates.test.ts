/** Who builds when: bounded in number, memory and what is remembered, whatever shapes users ask for. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { AppError } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { MemoryBudget, roomFor } from "../sandboxes/memory.ts";
import { MemoryPool } from "../storage/memory-pool.ts";
import type { TemplateBuilder, TemplateDeps, TemplateShape } from "./builder.ts";
import { Templates } from "./templates.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync("/tmp/bhatti-templates-");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const shape = (memoryMb: number): TemplateShape => ({
  image: "minimal",
  imagePath: "/none",
  imageDigest: "d",
  vcpus: 1,
  memoryMb,
});

/** Templates with a builder that works until `gate` opens. */
function lab(room: TemplateDeps["room"] = async () => () => {}) {
  const gate = Promise.withResolvers<void>();
  mkdirSync(`${dir}/reserved`, { recursive: true });
  const memoryPool = new MemoryPool(dir);
  const state = { running: 0, most: 0, built: 0, fail: null as Error | null };
  const builder = {
    async build(_shape: TemplateShape, into: string, key: string) {
      state.most = Math.max(state.most, ++state.running);
      try {
        await gate.promise;
        if (state.fail) throw state.fail;
        state.built++;
        for (const file of ["state", "disk"]) writeFileSync(`${into}/${file}`, "x");
        writeFileSync(`${await memoryPool.makeDir("templates", key)}/mem`, "x");
        return "sha";
      } finally {
        state.running--;
      }
    },
  } as unknown as TemplateBuilder;
  const deps = {
    config: { dataDir: dir, templateBudgetMb: 1000, vmPool: 0, templates: [] },
    engine: { fingerprint: () => "f" },
    kernels: { current: () => ({ version: "k" }) },
    storage: { usage: async () => ({ allocatedBytes: 1, exclusiveBytes: 1 }), sync: async () => {} },
    memoryPool,
    log: createLog("silent"),
    room,
  } as unknown as TemplateDeps;
  return { templates: new Templates(deps, builder), gate, state };
}
const made = (templates: Templates, memoryMb: number) =>
  templates.with(shape(memoryMb), async (found) => found !== null);

test("two are built at a time; other creates boot instead of waiting, those of the same shape share", async () => {
  const { templates, gate, state } = lab();
  const all = [1, 2, 3, 4, 5, 1].map((mb) => made(templates, mb));
  expect(await all[2]).toBe(false);
  expect(await all[4]).toBe(false);
  const prepared = templates.prepare(shape(6));
  for (let i = 0; i < 200 && state.running < 2; i++) await Bun.sleep(1);
  gate.resolve();
  expect(await Promise.all(all)).toEqual([true, true, false, false, false, true]);
  // What is made ahead waits for its turn.
  expect(await prepared).toBe(true);
  expect([state.most, state.built]).toEqual([2, 3]);
  expect(await made(templates, 3)).toBe(true);
});

test("a build holds a place of those that come up, and its memory; without memory it is tried again at once", async () => {
  const memory = new MemoryBudget(1000);
  const wakes = new Semaphore(1);
  const { templates, gate, state } = lab((mb) => roomFor(wakes, memory, mb));
  const first = made(templates, 512);
  for (let i = 0; i < 100 && state.running === 0; i++) await Bun.sleep(1);
  expect([memory.heldMb() > 512, wakes.tryAcquire()]).toEqual([true, null]);
  gate.resolve();
  expect(await first).toBe(true);
  expect(memory.heldMb()).toBe(0);
  await memory.reserve("other", 600);
  expect(await made(templates, 500)).toBe(false);
  expect(state.built).toBe(1);
  memory.release("other");
  expect(await made(templates, 500)).toBe(true);
  expect([memory.heldMb(), wakes.tryAcquire() !== null]).toEqual([0, true]);
});

test("what is remembered of shapes has an end", async () => {
  const { templates, gate, state } = lab();
  gate.resolve();
  state.fail = new AppError("internal", "no");
  for (let mb = 1; mb <= 500; mb++) expect(await made(templates, mb)).toBe(false);
  expect(templates.tracked()).toBeLessThanOrEqual(100);
  state.fail = null;
  // A failure is remembered: the same shape is not built at every create.
  expect(await made(templates, 500)).toBe(false);
  expect(await made(templates, 501)).toBe(true);
});
