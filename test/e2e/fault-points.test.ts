/** Every place where the daemon can be made to die has a test that makes it die there. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";

const SRC = `${import.meta.dir}/../../src`;

/** The points that the code announces: `<op>:<step>` of transitions, and those named outright. */
function points(): string[] {
  const found = new Set<string>();
  for (const file of new Bun.Glob("**/*.ts").scanSync(SRC)) {
    const text = readFileSync(`${SRC}/${file}`, "utf8");
    for (const [, name] of text.matchAll(/faultPoint\("([^"]+)"/g)) found.add(name!);
    const op = text.match(/new Transition\([^,]+, "([^"]+)"/)?.[1];
    if (!op) continue;
    for (const [, step] of text.matchAll(/\bt\.(?:reached|commit)\("([^"]+)"/g)) found.add(`${op}:${step}`);
    if (/\bt\.begin\(/.test(text)) found.add(`${op}:begin`);
    if (/\bt\.end\(/.test(text)) found.add(`${op}:end`);
  }
  return [...found].sort();
}

test("each fault point of the code has a test that kills the daemon there", () => {
  const suites = [...new Bun.Glob("*.test.ts").scanSync(import.meta.dir)]
    .filter((file) => file !== "fault-points.test.ts")
    .map((file) => readFileSync(`${import.meta.dir}/${file}`, "utf8"))
    .join("\n");
  expect(points().length).toBeGreaterThan(30);
  expect(points().filter((point) => !suites.includes(`"${point}"`))).toEqual([]);
});
