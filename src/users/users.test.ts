import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { migrations } from "../daemon/migrations.ts";
import { SnapshotRows } from "../snapshots/rows.ts";
import { blankRow } from "../snapshots/views.ts";
import { Store } from "../store/store.ts";
import { Users } from "./users.ts";

let dir: string;
let store: Store;
let users: Users;

beforeEach(() => {
  dir = mkdtempSync("/tmp/bhatti-users-");
  store = new Store(`${dir}/state.db`, migrations);
  users = new Users(store);
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

test("a key is shown once, stored as a hash, and names its user; also after a reopen", () => {
  const { user, key } = users.create({ name: "ann", admin: true });
  expect(key).toMatch(/^bht_[0-9a-f]{64}$/);
  expect(users.authenticate(key)).toEqual(user);
  expect(users.authenticate(`${key}x`)).toBeNull();
  expect(users.authenticate("x".repeat(100_000))).toBeNull();
  store.close();
  expect(readFileSync(`${dir}/state.db`).includes(key.slice(4))).toBe(false);
  store = new Store(`${dir}/state.db`, migrations);
  expect(new Users(store).authenticate(key)?.name).toBe("ann");
});

test("rotation is immediate; names are unique and checked; limits are whole numbers", () => {
  const { key } = users.create({ name: "ann" });
  const next = users.rotateKey("ann");
  expect(users.authenticate(key)).toBeNull();
  expect(users.authenticate(next)?.name).toBe("ann");
  expect(() => users.create({ name: "ann" })).toThrow("already exists");
  expect(() => users.create({ name: "a b" })).toThrow("invalid user name");
  expect(() => users.create({ name: "bob", maxSandboxes: 1.5 })).toThrow("whole number");
  expect(() => users.rotateKey("nobody")).toThrow("not found");
  expect(users.setLimits("ann", { maxSandboxes: 7 })).toMatchObject({
    maxSandboxes: 7,
    maxCpusPerSandbox: 4,
  });
});

test("subnets are distinct, reused only when their user is gone; a user with sandboxes stays", () => {
  const a = users.create({ name: "a" }).user;
  const b = users.create({ name: "b" }).user;
  expect([a.subnetIndex, b.subnetIndex]).toEqual([1, 2]);
  users.delete("a");
  expect(users.create({ name: "c" }).user.subnetIndex).toBe(1);
  new SnapshotRows(store).insert(blankRow(b, "n"));
  expect(() => users.delete("b")).toThrow("still owns 1 snapshots");
});

test("users created by two processes at the same time get different subnets", async () => {
  // No daemon runs: the commands take the directory's lock in turn.
  store.close();
  const script = `
    import { localCommand } from "${import.meta.dir}/../cli/commands/user-store.ts";
    for (let i = 0; i < 8; i++)
      await localCommand(process.argv[1], { op: "create", name: process.argv[2] + i, limits: {} });`;
  const children = ["x", "y"].map((name) =>
    Bun.spawn([process.execPath, "-e", script, dir, name], { stderr: "inherit" }),
  );
  expect(await Promise.all(children.map((child) => child.exited))).toEqual([0, 0]);
  store = new Store(`${dir}/state.db`, migrations);
  const made = new Users(store).list();
  expect(new Set(made.map((user) => user.subnetIndex)).size).toBe(made.length);
  expect(made.length).toBeGreaterThanOrEqual(16);
});
