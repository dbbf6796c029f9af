import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { run } from "../lib/run.ts";
import { mendPermissions, openToOthers } from "./permissions.ts";

let root: string;
const path = (name: string) => `${root}/${name}`;
const folder = (name: string, mode: number) => {
  mkdirSync(path(name), { recursive: true });
  chmodSync(path(name), mode);
};
const file = (name: string, mode: number) => {
  writeFileSync(path(name), "");
  chmodSync(path(name), mode);
};

beforeAll(() => {
  root = mkdtempSync("/tmp/bhatti-permissions-");
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

test("what a running VM passes through is not open, anything more is, and is closed", () => {
  folder("one", 0o700);
  folder("one/vm", 0o711);
  folder("one/out", 0o711);
  file("one/disk", 0o600);
  expect([...openToOthers(root)]).toEqual([]);

  folder("two", 0o711);
  folder("two/vm", 0o755);
  folder("two/out", 0o711);
  file("two/out/socket", 0o666);
  file("two/disk", 0o644);
  const open = [...openToOthers(root)].sort();
  expect(open).toEqual([path("two"), path("two/disk"), path("two/out/socket"), path("two/vm")]);

  expect(mendPermissions(root)).toBe(4);
  expect([...openToOthers(root)]).toEqual([]);
  expect(statSync(path("two/out")).mode & 0o777).toBe(0o711);
});

test("the way that a running VMM passes through stays open to its group: an adopted VM can be stopped", () => {
  const root = mkdtempSync("/tmp/bhatti-permissions-");
  try {
    for (const [name, mode] of [
      ["out", 0o710],
      ["vm", 0o711],
      ["other", 0o710],
    ] as const) {
      mkdirSync(`${root}/${name}`);
      chmodSync(`${root}/${name}`, mode);
    }
    mendPermissions(root);
    const mode = (name: string) => statSync(`${root}/${name}`).mode & 0o777;
    expect([mode("out"), mode("vm"), mode("other")]).toEqual([0o710, 0o711, 0o700]);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});

test.if(process.getuid?.() === 0)(
  "what others mounted there, and an image that is being built, keep their modes",
  async () => {
    const root = mkdtempSync("/tmp/bhatti-permissions-");
    const mounted = [`${root}/images/shm`, `${root}/reserved`];
    try {
      for (const dir of [`${root}/images`, ...mounted]) mkdirSync(dir, { mode: 0o700 });
      for (const dir of mounted) await run(["mount", "-t", "tmpfs", "-o", "mode=1777", "shared", dir]);
      mkdirSync(`${root}/images/.0123abcd.tmp`, { mode: 0o700 });
      mkdirSync(`${root}/images/.0123abcd.tmp/usr`, { mode: 0o755 });
      expect([...openToOthers(root)]).toEqual([`${root}/reserved`]);
      // The twin: such a folder that is not closed itself hides nothing.
      chmodSync(`${root}/images/.0123abcd.tmp`, 0o755);
      expect([...openToOthers(`${root}/images`)]).toHaveLength(2);
    } finally {
      for (const dir of mounted) await run(["umount", dir]).catch(() => {});
      rmSync(root, { recursive: true, force: true });
    }
  },
);
