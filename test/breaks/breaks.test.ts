/** Each break still breaks something: code that changed takes its break along. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";

const ROOT = `${import.meta.dir}/../..`;

test("every break applies to the code as it is, and names its test and its reason", () => {
  const names = readdirSync(import.meta.dir).filter((name) => name.endsWith(".break"));
  expect(names.length).toBeGreaterThan(100);
  const wrong = names.filter((name) => {
    const [head = "", ...diff] = readFileSync(`${import.meta.dir}/${name}`, "utf8").split("\n\n");
    const patched = Bun.spawnSync(["patch", "-p1", "--dry-run", "--force", "-s"], {
      cwd: ROOT,
      stdin: Buffer.from(diff.join("\n\n")),
    });
    return patched.exitCode !== 0 || !/^test: \S/m.test(head) || !/^why: \S/m.test(head);
  });
  expect(wrong).toEqual([]);
}, 60_000);
