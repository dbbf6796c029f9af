/**
 * Attacker: whoever hands a device state to the VMM. States are mutated and loaded into jailed VMMs: each is refused, runs, or
 * ends its VMM, inside the jail; nothing else on the host notices. `BHATTI_FUZZ_S` (default 40) seconds; a seed that was worth
 * it goes into SEEDS and runs first from then on.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { lstatSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { EngineError, type Vm, type VmSpec } from "../../src/engine/engine.ts";
import { createBench } from "../e2e/engine-bench.ts";

const SECONDS = Number(process.env.BHATTI_FUZZ_S ?? 40);
/** One of each kind of mutation, and those that once ended a VMM by a signal. */
const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];

let made: Awaited<ReturnType<typeof createBench>>;
let source: VmSpec;
let neighbour: { spec: VmSpec; vm: Vm };
let good: Buffer;

beforeAll(async () => {
  made = await createBench();
  const { bench } = made;
  const boot = async () => {
    const spec = await bench.spec();
    const vm = await bench.engine().boot(spec);
    await bench.guest(spec).ready(120_000);
    return { spec, vm };
  };
  neighbour = await boot();
  const { spec, vm } = await boot();
  await vm.pause();
  await vm.saveState(`${spec.dir}/state`);
  await vm.kill();
  source = spec;
  good = readFileSync(`${spec.dir}/state`);
}, 400_000);
afterAll(async () => {
  await neighbour?.vm.kill();
  await made?.bench.clean();
  await made?.close();
}, 60_000);

/** mulberry32: small, and the same everywhere. */
function random(seed: number): (below: number) => number {
  let a = seed;
  return (below) => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4294967296) * below);
  };
}

/** Numbers that lengths and indexes do not like. */
const NUMBERS = [
  0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
];

function mutate(state: Buffer, seed: number): Buffer {
  const pick = random(seed);
  let bytes = Buffer.from(state);
  // A state begins with headers and names of sections; most of what is behind them are registers. Both get their share.
  const place = () => (pick(2) === 0 ? pick(Math.min(bytes.length, 4096)) : pick(bytes.length));
  for (let n = 1 + pick(6); n > 0; n--) {
    const at = place();
    switch ((seed + n) % 6) {
      case 0:
        bytes[at]! ^= 1 << pick(8);
        break;
      case 1:
        bytes[at] = pick(256);
        break;
      case 2:
        if (at + 4 <= bytes.length) bytes.writeUInt32BE(NUMBERS[pick(NUMBERS.length)]!, at);
        break;
      case 3:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          bytes.subarray(Math.min(bytes.length, at + 1 + pick(64))),
        ]);
        break;
      case 4:
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          bytes.subarray(at, at + pick(4096)),
          bytes.subarray(at),
        ]);
        break;
      default:
        if (pick(4) === 0) bytes = bytes.subarray(0, Math.max(1, at));
        else bytes.copy(bytes, at, pick(bytes.length), pick(bytes.length));
    }
  }
  return bytes;
}

type Outcome = "refused" | "ran" | "ended by itself";

async function attack(seed: number): Promise<Outcome> {
  const { bench } = made;
  const spec = await bench.copy(source);
  const state = `${spec.dir}/state`;
  writeFileSync(state, seed === 0 ? good : mutate(good, seed));
  let vm: Vm;
  try {
    vm = await bench.engine().restore(spec, state);
  } catch (error) {
    expect({ seed, error: error instanceof EngineError ? "EngineError" : String(error) }).toEqual({
      seed,
      error: "EngineError",
    });
    await contained(spec, seed);
    return "refused";
  }
  await vm.resume().catch(() => {});
  await Promise.race([Bun.sleep(250), vm.exited]);
  const state1 = await vm.state().catch(() => "exited");
  await vm.kill();
  await contained(spec, seed);
  return state1 === "exited" ? "ended by itself" : "ran";
}

/** The VMM and all of its user are gone, and left nothing but what root made for it. */
async function contained(spec: VmSpec, seed: number): Promise<void> {
  expect({ seed, users: [...made.bench.engine().liveUids(spec.uid, spec.uid)] }).toEqual({ seed, users: [] });
  const expected = /^(disk|mem|state|vm|out|qmp\.sock|(vmm|console)\.log(\.1)?)$/;
  for (const name of readdirSync(spec.dir)) {
    const facts = lstatSync(`${spec.dir}/${name}`);
    expect({ seed, name, known: expected.test(name), link: facts.isSymbolicLink() }).toEqual({
      seed,
      name,
      known: true,
      link: false,
    });
    if (name.includes(".log")) expect(facts.size).toBeLessThanOrEqual(512 * 1024);
  }
  expect(readdirSync(`${spec.dir}/vm`)).toEqual([]);
}

test(
  "mutated device states stay in the jail",
  async () => {
    // The twin of every refusal: the state as it was runs.
    expect(await attack(0)).toBe("ran");
    const tainted = readFileSync("/proc/sys/kernel/tainted", "utf8");
    const outcomes: Record<Outcome, number> = { refused: 0, ran: 0, "ended by itself": 0 };
    const first = Number(process.env.BHATTI_FUZZ_SEED ?? Date.now() % 2 ** 31);
    const end = Date.now() + SECONDS * 1000;
    const queue = [...SEEDS];
    let next = first;
    while (queue.length > 0 || Date.now() < end) {
      const seed = queue.shift() ?? next++;
      const outcome = await attack(seed);
      outcomes[outcome]++;
      if (outcome === "ended by itself") console.log(`seed ${seed}: the VMM ended by itself`);
      if (queue.length > 0 && Date.now() > end + 60_000) break; // a slow machine
    }
    console.log(`seeds ${first}…${next - 1} and ${SEEDS.length} kept ones: ${JSON.stringify(outcomes)}`);
    expect(outcomes.refused).toBeGreaterThan(0);
    expect(readFileSync("/proc/sys/kernel/tainted", "utf8")).toBe(tainted);
    // The other machine went on, and so did we.
    expect(await neighbour.vm.state()).toBe("running");
    await made.bench.guest(neighbour.spec).ready(30_000);
  },
  (SECONDS + 200) * 1000,
);
