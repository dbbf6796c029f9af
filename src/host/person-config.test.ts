import { afterAll, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import type { Account } from "../lib/user-files.ts";
import { forgetConfig, keyOf, saveConfig } from "./person-config.ts";

const dir = mkdtempSync("/tmp/bhatti-person-config-");
const person: Account = { name: "ann", uid: 65533, gid: 65533, home: `${dir}/home` };
const file = `${person.home}/.bhatti/config.yaml`;
const local = "http://127.0.0.1:8080";
const read = () => readFileSync(file, "utf8");
chmodSync(dir, 0o755);
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function home(config?: string): void {
  rmSync(person.home, { recursive: true, force: true });
  mkdirSync(`${person.home}/.bhatti`, { recursive: true });
  if (config !== undefined) writeFileSync(file, config);
  for (const path of [person.home, `${person.home}/.bhatti`, ...(config === undefined ? [] : [file])])
    chownSync(path, person.uid, person.gid);
}

test.if(process.getuid?.() === 0)("the key of another server outlives installation and purge", async () => {
  const other = "api_url: https://far.example\nauth_token: bht_far\n";
  home(other);
  const notes: string[] = [];
  await saveConfig(person, local, "bht_here", (text) => notes.push(text));
  expect(await keyOf(person)).toBe("bht_here");
  expect(notes.join()).toContain("config.yaml.before-install");
  await saveConfig(person, local, "bht_again", () => {});
  expect(readFileSync(`${file}.before-install`, "utf8")).toBe(other);
  await forgetConfig(person, "http://localhost:8080");
  expect([read(), existsSync(`${file}.before-install`)]).toEqual([other, false]);
  await forgetConfig(person, "http://localhost:8080");
  expect(read()).toBe(other);
});

test.if(process.getuid?.() === 0)(
  "a key of this server is replaced, and its folder goes with a purge",
  async () => {
    home("api_url: http://localhost:8080\nauth_token: bht_old\n");
    await saveConfig(person, local, "bht_here", () => {});
    expect([await keyOf(person), existsSync(`${file}.before-install`)]).toEqual(["bht_here", false]);
    await forgetConfig(person, "http://localhost:8080");
    expect(existsSync(`${person.home}/.bhatti`)).toBe(false);
  },
);
