import { afterAll, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { changedByOthers } from "../lib/root-only.ts";
import { mountStorage, rootsAlone } from "./storage.ts";

const dir = realpathSync(mkdtempSync("/var/tmp/bhatti-root-only-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test.if(process.getuid?.() === 0)(
  "what others can put in the place of root's is found, links looked through",
  () => {
    mkdirSync(`${dir}/a/b`, { recursive: true, mode: 0o755 });
    writeFileSync(`${dir}/a/b/file`, "", { mode: 0o600 });
    expect(changedByOthers(`${dir}/a/b/file`)).toBeNull();
    chownSync(`${dir}/a/b`, 65533, 65533);
    expect(changedByOthers(`${dir}/a/b/file`)).toBe(`${dir}/a/b`);
    chownSync(`${dir}/a/b`, 0, 0);
    chmodSync(`${dir}/a`, 0o777);
    expect(changedByOthers(`${dir}/a/b/file`)).toBe(`${dir}/a`);
    chmodSync(`${dir}/a`, 0o1777);
    expect(changedByOthers(`${dir}/a/b/file`)).toBeNull();
    expect(changedByOthers(`${dir}/a`)).toBe(`${dir}/a`);
    symlinkSync(`${dir}/a`, `${dir}/link`);
    expect(changedByOthers(`${dir}/link`)).toBe(`${dir}/a`);
  },
);

test.if(process.getuid?.() === 0)("a loopback file that somebody else laid out is not mounted", async () => {
  const storage = `${dir}/storage`;
  mkdirSync(storage, { mode: 0o1777 });
  chmodSync(storage, 0o1777);
  expect(() => rootsAlone(storage)).toThrow("not safe for data");
  writeFileSync(`${storage}/bhatti.btrfs`, "not a file system");
  chownSync(`${storage}/bhatti.btrfs`, 65533, 65533);
  await expect(mountStorage({ dataDir: `${dir}/data`, storage })).rejects.toThrow("not safe for data");
  // The twin: root's own file gets as far as mount, which finds no file system in it.
  chownSync(`${storage}/bhatti.btrfs`, 0, 0);
  chmodSync(`${storage}/bhatti.btrfs`, 0o600);
  mkdirSync(`${dir}/data`);
  await expect(mountStorage({ dataDir: `${dir}/data`, storage })).rejects.toThrow("mount");
});
