/** 4000 sandboxes: what a question costs is counted in actors that are looked at, not in time. */
import { expect, test } from "bun:test";
import { MemoryBudget } from "./memory.ts";
import { Registry } from "./registry.ts";
import { stats } from "./stats.ts";

const COUNT = 4000;
const OWNERS = 40;

let looks = 0;
/** An actor whose row is counted when somebody looks at it. */
function counted(i: number) {
  const row = {
    id: `id${i}`,
    created_by: `u${i % OWNERS}`,
    name: `n${i}`,
    status: i % 2 === 0 ? ("running" as const) : ("stopped" as const),
  };
  return {
    gone: false,
    thermal: "hot" as const,
    get row() {
      looks++;
      return row;
    },
  };
}

function full() {
  const registry = new Registry<ReturnType<typeof counted>>();
  const actors = Array.from({ length: COUNT }, (_, i) => counted(i));
  for (const actor of actors) registry.add(actor);
  looks = 0;
  return { registry, actors };
}

test("a look-up by id or name looks at one sandbox, also when there is none", () => {
  const { registry, actors } = full();
  expect(registry.find("u7", "n7")).toBe(actors[7]!);
  expect(registry.find("u7", "id7")).toBe(actors[7]!);
  expect(registry.find("u8", "n7")).toBeNull();
  expect(registry.find("u8", "id7")).toBeNull();
  expect(registry.find("u7", "nobody")).toBeNull();
  expect(looks).toBeLessThan(20);
});

test("a list looks at the owner's own, a scrape at each once; neither copies the others", () => {
  const { registry } = full();
  expect([...registry.of("u3")].length).toBe(COUNT / OWNERS);
  expect(looks).toBe(0);
  expect(stats(registry as never, new MemoryBudget(1000))).toMatchObject({
    total: COUNT,
    hot: COUNT / 2,
    cold: COUNT / 2,
  });
  expect(looks).toBe(COUNT);
});

test("names follow: renamed, taken by a successor, removed", () => {
  const { registry, actors } = full();
  const first = actors[0]!;
  first.row.name = "new";
  registry.renamed(first, "n0");
  expect([registry.find("u0", "n0"), registry.find("u0", "new")]).toEqual([null, first]);
  // Its row is gone, it is not yet: a successor of the same name stays when it goes.
  const successor = counted(COUNT);
  Object.assign(successor.row, { created_by: "u0", name: "new" });
  registry.add(successor);
  registry.remove(first);
  expect(registry.find("u0", "new")).toBe(successor);
  for (const actor of actors.slice(1)) registry.remove(actor);
  registry.remove(successor);
  expect([registry.size, [...registry.of("u0")]]).toEqual([0, []]);
});
