import { expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { run } from "../lib/run.ts";
import { unifyModules } from "./modules.ts";

const RELEASE = "6.12.1+deb13-cloud-amd64";

for (const layout of ["lib", "usr/lib"]) {
  test(`depmod finds the modules of a package with ${layout}/modules`, async () => {
    const tree = mkdtempSync("/tmp/bhatti-modules-");
    try {
      mkdirSync(`${tree}/${layout}/modules/${RELEASE}/kernel`, { recursive: true });
      for (const file of ["modules.order", "modules.builtin"])
        writeFileSync(`${tree}/${layout}/modules/${RELEASE}/${file}`, "");
      await unifyModules(tree);
      await run(["depmod", "-b", tree, RELEASE]);
      for (const path of ["lib", "usr/lib"])
        expect(existsSync(`${tree}/${path}/modules/${RELEASE}/modules.dep`)).toBe(true);
    } finally {
      rmSync(tree, { recursive: true, force: true });
    }
  });
}

test("a package without modules is refused", async () => {
  const tree = mkdtempSync("/tmp/bhatti-modules-");
  try {
    await expect(unifyModules(tree)).rejects.toThrow("no kernel modules");
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
});
