/** Root in the home of a person who laid out links. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type Account, account, readAs, removeAs, replaceAs } from "./user-files.ts";

const dir = mkdtempSync("/tmp/bhatti-user-files-");
const person: Account = { name: "mallory", uid: 65533, gid: 65533, home: `${dir}/home` };
const mine = `${dir}/of-root/config.yaml`;
const file = `${person.home}/.bhatti/config.yaml`;

beforeAll(() => {
  chmodSync(dir, 0o755);
  mkdirSync(`${dir}/of-root`, { mode: 0o700 });
  writeFileSync(mine, "auth_token: of-root\n", { mode: 0o600 });
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function freshHome(): void {
  rmSync(person.home, { recursive: true, force: true });
  mkdirSync(person.home);
  chownSync(person.home, person.uid, person.gid);
}

const untouched = () => {
  expect(readFileSync(mine, "utf8")).toBe("auth_token: of-root\n");
  expect([statSync(mine).uid, statSync(mine).mode & 0o777]).toEqual([0, 0o600]);
  expect([statSync(`${dir}/of-root`).uid, readdirSync(`${dir}/of-root`)]).toEqual([0, ["config.yaml"]]);
};

test("a file is written, replaced, read and removed as its owner", async () => {
  freshHome();
  await replaceAs(person, file, "one\n");
  await replaceAs(person, file, "two\n");
  const { uid, gid, mode } = lstatSync(file);
  expect([uid, gid, mode & 0o777]).toEqual([person.uid, person.gid, 0o600]);
  expect(statSync(`${person.home}/.bhatti`).mode & 0o777).toBe(0o700);
  expect(await readAs(person, file)).toBe("two\n");
  expect(readdirSync(`${person.home}/.bhatti`)).toEqual(["config.yaml"]);
  await removeAs(person, `${person.home}/.bhatti`);
  expect(existsSync(`${person.home}/.bhatti`)).toBe(false);
  expect(account("root")).toMatchObject({ uid: 0, home: "/root" });
  expect(account("no such person")).toBeNull();
});

test.if(process.getuid?.() === 0)("links lead root nowhere", async () => {
  // The folder is a link to one of root's.
  freshHome();
  symlinkSync(`${dir}/of-root`, `${person.home}/.bhatti`);
  await expect(replaceAs(person, file, "taken")).rejects.toThrow("Permission denied");
  await expect(readAs(person, file)).rejects.toThrow();
  await removeAs(person, `${person.home}/.bhatti`);
  untouched();
  // The file is one.
  freshHome();
  mkdirSync(`${person.home}/.bhatti`);
  chownSync(`${person.home}/.bhatti`, person.uid, person.gid);
  symlinkSync(mine, file);
  await expect(readAs(person, file)).rejects.toThrow();
  await replaceAs(person, file, "mine\n");
  expect(lstatSync(file).isSymbolicLink()).toBe(false);
  untouched();
  // A folder that belongs to root is not written either.
  rmSync(`${person.home}/.bhatti`, { recursive: true });
  mkdirSync(`${person.home}/.bhatti`);
  await expect(replaceAs(person, file, "taken")).rejects.toThrow();
  expect(readdirSync(`${person.home}/.bhatti`)).toEqual([]);
  // The twin: what root's own hand does on the same path.
  rmSync(`${person.home}/.bhatti`, { recursive: true });
  symlinkSync(`${dir}/of-root`, `${person.home}/.bhatti`);
  writeFileSync(file, "taken");
  expect(readFileSync(mine, "utf8")).toBe("taken");
});
