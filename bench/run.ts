/**
 * Measures what users feel, on a real daemon with real VMs, against floors measured in the same run.
 *
 *   sudo ./bench.sh [--n N] [--only SUITE,…] [--json FILE] [--write]
 *
 * Prints p50/p95/p99 with n, and says of each promise of SPECIFICATION.md whether this run kept it; --write puts the figures
 * there. Status 1 when a promise was missed. A refused request is an error of the run, never a fast one. The page cache is
 * warm throughout: nothing is dropped between rounds.
 */
import { rmSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Installation, removeBase } from "../test/e2e/harness.ts";
import { judge } from "./promises.ts";
import { writeSpecification } from "./spec.ts";
import { cli } from "./suites/cli.ts";
import { copies } from "./suites/copies.ts";
import { create } from "./suites/create.ts";
import { exec } from "./suites/exec.ts";
import { rawVmm } from "./suites/raw-vmm.ts";
import { scale } from "./suites/scale.ts";
import { thermal } from "./suites/thermal.ts";
import { Table } from "./table.ts";

const SUITES = [cli, rawVmm, create, exec, thermal, copies, scale];

const { values } = parseArgs({
  options: {
    n: { type: "string", default: "60" },
    only: { type: "string", default: SUITES.map((suite) => suite.name).join(",") },
    json: { type: "string" },
    write: { type: "boolean", default: false },
  },
});
const wanted = values.only.split(",");
const unknown = wanted.find((name) => !SUITES.some((suite) => suite.name === name));
if (unknown !== undefined)
  throw new Error(`no suite ${unknown}: ${SUITES.map((suite) => suite.name).join(", ")}`);
if (values.write && wanted.length < SUITES.length) throw new Error("--write needs a whole run");

const table = new Table();
let engine = "";
const installation = await Installation.create({
  config: { vm_pool: 3, network_pool: 6, memory_pool_mb: 20_480 },
});
try {
  const status = await installation.api.ok("GET", "/admin/status");
  engine = `${status.engine}/${status.accel}`;
  for (const suite of SUITES) {
    if (wanted.includes(suite.name)) await suite.run({ table, n: Number(values.n), installation });
  }
} finally {
  await installation.remove();
  if (!process.env.BHATTI_TEST_KEEP_BASE) await removeBase();
  rmSync("/tmp/bhatti-bench", { recursive: true, force: true });
}
table.print();
const judgements = judge(table);
console.log("");
for (const { text, seen, limit, unit, kept, atLeast, n } of judgements) {
  const bound = `${atLeast ? "at least" : "limit"} ${limit}`;
  console.log(`${kept ? "kept  " : "MISSED"}  ${text}: ${seen.toFixed(2)} ${unit} (${bound}, n ${n})`);
}
if (values.json)
  writeFileSync(values.json, JSON.stringify({ engine, rows: table.rows, judgements }, null, 2));
if (values.write) writeSpecification(judgements, engine);
// Whatever still holds a socket open must not keep a finished run alive.
process.exit(judgements.every((judgement) => judgement.kept) ? 0 : 1);
