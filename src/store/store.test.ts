/** The database file among others: v1's commands add tables to it, and a folder may be v1's own. */
import { Database } from "bun:sqlite";
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { migrations } from "../daemon/migrations.ts";
import { Store } from "./store.ts";

let dir: string;
const file = () => `${dir}/state.db`;

beforeEach(() => {
  dir = mkdtempSync("/tmp/bhatti-store-");
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** What v1's commands leave in a database that they find. */
const V1 = `
CREATE TABLE IF NOT EXISTS users (id TEXT PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS volumes (user_id TEXT, name TEXT, value_encrypted BLOB, PRIMARY KEY (user_id, name));
CREATE INDEX IF NOT EXISTS idx_volumes_user ON volumes (user_id);
CREATE TABLE IF NOT EXISTS images (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS templates (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS tasks (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS publish_rules (id TEXT PRIMARY KEY);`;

test("tables that v1's commands added are noticed, and a later migration of the same name goes on", () => {
  const first = new Store(file(), migrations);
  expect(first.foreign).toEqual([]);
  first.close();
  const v1 = new Database(file());
  v1.exec(V1);
  v1.exec("INSERT INTO volumes VALUES ('u', 'n', x'00')");
  v1.close();
  const again = new Store(file(), migrations);
  expect(again.foreign).toEqual(["images", "publish_rules", "tasks", "templates", "volumes"]);
  again.close();
  const later = ["volumes", "images", "templates", "tasks", "publish_rules"].map((table, i) => ({
    id: `03${i}0-${table}`,
    sql: `CREATE TABLE ${table} (id TEXT PRIMARY KEY, ours INTEGER NOT NULL) STRICT; CREATE INDEX idx_${table}_user ON ${table} (ours);`,
  }));
  const now = new Store(file(), [...migrations, ...later]);
  now.db.exec("INSERT INTO volumes VALUES ('s', 1)");
  // Nothing that was there is lost.
  expect(now.db.query("SELECT name FROM foreign_volumes").all()).toEqual([{ name: "n" }]);
  expect(now.foreign).toEqual(later.map(({ id }) => `foreign_${id.slice(5)}`).sort());
  now.close();
  new Store(file(), [...migrations, ...later]).close();
});

test("the folder of v1, or of anybody else, is refused and left as it was", () => {
  const v1 = new Database(file());
  v1.exec(`${V1} CREATE TABLE sandboxes (id TEXT PRIMARY KEY, engine_meta_json TEXT);`);
  v1.close();
  const before = readFileSync(file());
  expect(() => new Store(file(), migrations)).toThrow("is the database of bhatti v1");
  expect(readFileSync(file()).equals(before)).toBe(true);
  const other = new Database(`${dir}/other.db`);
  other.exec("CREATE TABLE notes (text TEXT)");
  other.close();
  expect(() => new Store(`${dir}/other.db`, migrations)).toThrow("is not a database of bhatti");
});

test("the daemon says what to do about such a folder", async () => {
  const v1 = new Database(file());
  v1.exec(`${V1} CREATE TABLE sandboxes (id TEXT PRIMARY KEY);`);
  v1.close();
  writeFileSync(`${dir}/config.yaml`, `data_dir: ${dir}\nlisten: 127.0.0.1:0\n`);
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/../main.ts`, "serve"], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    env: { PATH: process.env.PATH!, HOME: "/nonexistent", BHATTI_CONFIG: `${dir}/config.yaml` },
  });
  const told = await new Response(child.stderr).text();
  expect([await child.exited, told]).toEqual([
    1,
    expect.stringContaining("another folder: data_dir in /etc/bhatti/config.yaml"),
  ]);
}, 30_000);
