/** Who may have a machine at the moment when its row is written. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { migrations } from "../daemon/migrations.ts";
import { createLog } from "../lib/log.ts";
import { Names } from "../network/names.ts";
import type { Owner, SandboxNet } from "../network/network.ts";
import { Slots } from "../network/slots.ts";
import { Store } from "../store/store.ts";
import type { User } from "../users/user.ts";
import { Users } from "../users/users.ts";
import { admit } from "./admission.ts";
import type { Admitted } from "./copies.ts";
import type { SandboxDeps } from "./deps.ts";
import { SandboxRows } from "./rows.ts";

let dir: string;
let store: Store;
let users: Users;
let released: SandboxNet[];
let deps: SandboxDeps;

beforeEach(() => {
  dir = mkdtempSync("/tmp/bhatti-admission-");
  store = new Store(`${dir}/state.db`, migrations);
  users = new Users(store);
  released = [];
  const slots = new Slots(new Names());
  deps = {
    rows: new SandboxRows(store),
    network: {
      plan: (owner: Owner, slot?: number) => slots.plan(owner, slot),
      release: async (_owner: Owner, net: SandboxNet) => void released.push(net),
    },
    log: createLog("silent"),
    bootId: "b",
  } as unknown as SandboxDeps;
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

const want = {
  namePrefix: "sandbox",
  image: "minimal",
  cpus: 1,
  memoryMb: 256,
  diskSizeMb: 0,
  env: {},
  init: "",
  keepHot: false,
  labels: {},
  warmAfterS: 0,
  coldAfterS: 0,
  kernel: "k",
  createdFrom: "template",
  secrets: [],
} as unknown as Admitted;
const make = (user: User) => admit(deps, user, want);

test("a create that outlives its user does not come up in the subnet of the next one", () => {
  const { user: ann } = users.create({ name: "ann" });
  users.delete("ann");
  const { user: bob } = users.create({ name: "bob" });
  expect(bob.subnetIndex).toBe(ann.subnetIndex);
  expect(() => make(ann)).toThrow("your user was deleted");
  expect(released).toHaveLength(1);
  expect(deps.rows.all()).toEqual([]);
  // The twin: who is there gets a machine.
  expect(make(bob)).toMatchObject({ created_by: bob.id, subnet_index: bob.subnetIndex });
});
