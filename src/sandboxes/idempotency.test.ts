import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { Store } from "../store/store.ts";
import { fingerprintOf, IdempotencyKeys, idempotencyMigrations } from "./idempotency.ts";

let dir: string;
let store: Store;
let now = Date.parse("2026-01-01T00:00:00Z");
let keys: IdempotencyKeys;

beforeEach(() => {
  dir = mkdtempSync("/tmp/bhatti-keys-");
  store = new Store(`${dir}/state.db`, idempotencyMigrations);
  keys = new IdempotencyKeys(store, () => now);
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true, force: true });
});
const there = () => true;
const gone = () => false;
const count = () => store.db.query<{ n: number }, []>("SELECT count(*) AS n FROM idempotency_keys").get()!.n;

test("a key stands for one input and one sandbox, for a day; a create that was never answered leaves it free", () => {
  expect(keys.find("u", "k", "r", there)).toBeNull();
  keys.remember("u", "k", "r", "s1", false);
  expect(keys.find("u", "k", "r", gone)).toBeNull();
  expect(keys.find("u", "k", "r", there)).toBe("s1");
  expect(() => keys.find("u", "k", "other", there)).toThrow("was used for another create");
  expect(keys.find("u2", "k", "other", there)).toBeNull();
  keys.made("u", "k");
  expect(() => keys.find("u", "k", "r", gone)).toThrow("was destroyed");
  now += 24 * 3_600_000 + 1;
  expect(keys.find("u", "k", "other", gone)).toBeNull();
  // Forgotten for good, also those of users who never come back.
  expect(count()).toBe(0);
});

test("the newest ten thousand of a user are kept", () => {
  store.transaction(() => {
    for (let i = 0; i < 10_050; i++) {
      now++;
      keys.remember("u", `k${i}`, "r", "s", true);
    }
    keys.remember("other", "k", "r", "s", true);
  });
  expect(count()).toBe(10_001);
  expect([keys.find("u", "k49", "r", there), keys.find("u", "k50", "r", there)]).toEqual([null, "s"]);
}, 60_000);

test("the same create in another order of members is the same", () => {
  const content = new Uint8Array([1, 2]);
  const files = [{ guest_path: "/a", content, mode: "0644" }];
  const one = fingerprintOf({ name: "a", env: { A: "1", B: "2" }, files });
  expect(fingerprintOf({ files, env: { B: "2", A: "1" }, name: "a", image: undefined })).toBe(one);
  expect(fingerprintOf({ name: "a", env: { A: "1", B: "3" }, files })).not.toBe(one);
  const other = [{ ...files[0]!, content: new Uint8Array([1, 3]) }];
  expect(fingerprintOf({ name: "a", env: { A: "1", B: "2" }, files: other })).not.toBe(one);
});
