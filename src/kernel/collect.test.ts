import { afterEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { collectKernels } from "./collect.ts";

const dir = mkdtempSync(`${tmpdir()}/kernels-`);
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test("only old versions that nothing needs are removed", () => {
  const old = new Date(Date.now() - 2 * 60 * 60_000);
  for (const version of ["6.12.1-now", "6.12.1-used", "6.12.1-old", "6.12.1-new", "packages", ".a.tmp"]) {
    mkdirSync(`${dir}/kernel/${version}`, { recursive: true });
    writeFileSync(`${dir}/kernel/${version}/vmlinux`, "x");
    if (!version.endsWith("-new")) utimesSync(`${dir}/kernel/${version}`, old, old);
  }
  symlinkSync("6.12.1-now", `${dir}/kernel/current`);
  expect(collectKernels(dir, new Set(["6.12.1-used"]))).toEqual(["6.12.1-old"]);
  expect(readdirSync(`${dir}/kernel`).sort()).toEqual(
    [".a.tmp", "6.12.1-new", "6.12.1-now", "6.12.1-used", "current", "packages"].sort(),
  );
});
