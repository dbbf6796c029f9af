/** What a fork or a sandbox made from a snapshot has of the one it was made of. */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { migrations } from "../daemon/migrations.ts";
import { Names } from "../network/names.ts";
import type { Owner } from "../network/network.ts";
import { Slots } from "../network/slots.ts";
import { admit } from "../sandboxes/admission.ts";
import { IN_COPIES } from "../sandboxes/copies.ts";
import type { SandboxDeps } from "../sandboxes/deps.ts";
import { type SandboxRow, SandboxRows } from "../sandboxes/rows.ts";
import { Store } from "../store/store.ts";
import { Users } from "../users/users.ts";
import { SnapshotRows } from "./rows.ts";
import { blankRow, rowOf, wantOf } from "./views.ts";

/** One that no sandbox has by default, for each column that copies take over. */
const UNUSUAL = {
  image: "other",
  cpus: 2.5,
  memory_mb: 384,
  disk_size_mb: 4321,
  labels: '{"app":"x"}',
  warm_after_s: 77,
  cold_after_s: 7777,
  env: '{"A":"1"}',
  on_unresponsive: "restart",
  secrets: '[{"name":"A","env":"A"}]',
} as const;

test("every column of a sandbox is known to be taken over or not, and is", () => {
  const dir = mkdtempSync("/tmp/bhatti-inherit-");
  const store = new Store(`${dir}/state.db`, migrations);
  const { user } = new Users(store).create({ name: "ann" });
  const slots = new Slots(new Names());
  const deps = {
    rows: new SandboxRows(store),
    network: { plan: (owner: Owner) => slots.plan(owner, undefined) },
    bootId: "b",
  } as unknown as SandboxDeps;
  const defaults = { warmAfterS: 30, coldAfterS: 1800, kernel: "k" };

  const columns = store.db.query<{ name: string }, []>("SELECT name FROM pragma_table_info('sandboxes')");
  const known: string[] = Object.keys(IN_COPIES);
  expect(
    columns
      .all()
      .map(({ name }) => name)
      .sort(),
  ).toEqual(known.sort());
  const taken = known.filter((name) => IN_COPIES[name as keyof SandboxRow] === "taken");
  expect(Object.keys(UNUSUAL).sort()).toEqual(taken.sort());

  const made = admit(deps, user, wantOf(blankRow(user, "x"), "fork", "plain", "x", defaults));
  const source: SandboxRow = { ...made, ...UNUSUAL, keep_hot: 1, init: "exit 4" };
  for (const name of taken as (keyof typeof UNUSUAL)[]) expect(made[name]).not.toBe(UNUSUAL[name]);
  const snapshots = new SnapshotRows(store);
  const row = rowOf(user, source, "s", false);
  snapshots.insert(row);
  for (const how of ["fork", "snapshot"] as const) {
    const want = wantOf(snapshots.find(user.id, "s")!, how, how, "x", defaults);
    const copy = admit(deps, user, want);
    expect(copy).toMatchObject({ ...UNUSUAL, keep_hot: 0, init: "", created_from: how });
  }
  // Older snapshots and imports know no idle times: those of this server.
  expect(made).toMatchObject({ warm_after_s: 30, cold_after_s: 1800, on_unresponsive: "none" });
  store.close();
  rmSync(dir, { recursive: true });
});
