/** The direction of imports: rooms depend downwards, nouns meet only at narrow interfaces, nothing goes in circles. */
import { expect, test } from "bun:test";
import { dirname, join, normalize } from "node:path";

const SRC = import.meta.dir;

/** What each room may import beside itself. `nouns` = rooms of the product's nouns, at their interfaces only. */
const BASE = ["lib"];
const PARTS = ["lib", "engine", "guest", "network", "storage", "store", "http", "edge"];
const ALLOWED: Record<string, string[]> = {
  lib: [],
  http: BASE,
  edge: [...BASE, "http", "guest"],
  store: BASE,
  guest: BASE,
  network: BASE,
  storage: BASE,
  engine: BASE,
  kernel: [...BASE, "engine"],
  users: [...PARTS, "nouns"],
  events: [...PARTS, "nouns"],
  images: [...PARTS, "nouns"],
  templates: [...PARTS, "nouns"],
  sandboxes: [...PARTS, "nouns"],
  exec: [...PARTS, "nouns"],
  files: [...PARTS, "nouns"],
  ports: [...PARTS, "nouns"],
  publish: [...PARTS, "nouns"],
  snapshots: [...PARTS, "nouns"],
  secrets: [...PARTS, "nouns"],
  client: ["nouns"],
  cli: ["client", "lib", "daemon", "host", "store", "users"],
};
/** Composition roots: they know everything. */
const ROOTS = new Set(["daemon", "host", "main.ts", "version.ts"]);

/** What a noun shows to the others. */
const INTERFACES = new Set([
  "users/user.ts",
  "users/app-env.ts",
  "users/operator.ts",
  "users/storage-quota.ts",
  "events/events.ts",
  "images/image.ts",
  "templates/builder.ts",
  "templates/clone-source.ts",
  "templates/templates.ts",
  "templates/vm-pool.ts",
  "sandboxes/service.ts",
  "sandboxes/copies.ts",
  "sandboxes/rows.ts",
  "sandboxes/schemas.ts",
  "sandboxes/refusals.ts",
  "sandboxes/operations.ts",
  "sandboxes/request-lease.ts",
  "snapshots/service.ts",
  "secrets/service.ts",
  "publish/service.ts",
  "events/metrics.ts",
  "secrets/reference.ts",
]);

const room = (file: string): string => file.split("/")[0]!;

async function graph(): Promise<Map<string, string[]>> {
  const edges = new Map<string, string[]>();
  for (const file of new Bun.Glob("**/*.ts").scanSync(SRC)) {
    if (/\.(test|fixture)\.ts$|fake-daemon|test-lab|contract\.ts$/.test(file)) continue;
    const text = await Bun.file(`${SRC}/${file}`).text();
    const found = [...text.matchAll(/(?:from |import\()"(\.[^"]+)"/g)].map((m) =>
      normalize(join(dirname(file), m[1]!)),
    );
    edges.set(file, found);
  }
  return edges;
}

test("rooms import downwards, and other nouns only at their interfaces", async () => {
  const wrong: string[] = [];
  for (const [file, imports] of await graph()) {
    const from = room(file);
    if (ROOTS.has(from)) continue;
    const allowed = ALLOWED[from] ?? [];
    for (const to of imports) {
      if (to.startsWith("../")) continue; // recipes, package data
      if (room(to) === from || room(to) === "version.ts") continue;
      const ok = allowed.includes(room(to)) || (allowed.includes("nouns") && INTERFACES.has(to));
      if (!ok) wrong.push(`${file} -> ${to}`);
    }
  }
  expect(wrong).toEqual([]);
});

test("no file imports itself by way of others", async () => {
  const edges = await graph();
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, path: string[]): void => {
    const at = path.indexOf(file);
    if (at >= 0) {
      circles.push([...path.slice(at), file].join(" -> "));
      return;
    }
    if (done.has(file)) return;
    for (const next of edges.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of edges.keys()) visit(file, []);
  expect(circles).toEqual([]);
});
