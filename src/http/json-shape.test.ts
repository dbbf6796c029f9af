import { expect, test } from "bun:test";
import { shapeProblem } from "./json-shape.ts";

test("depth and number of values are bounded, the content of strings is not", () => {
  expect(shapeProblem('{"a":[1,{"b":"x"}]}')).toBeNull();
  expect(shapeProblem(JSON.stringify({ stdin: ',[{"\\'.repeat(200_000) }))).toBeNull();
  expect(shapeProblem(JSON.stringify(Array.from({ length: 20_000 }, () => 1)))).toBeNull();
  expect(shapeProblem(JSON.stringify(Array.from({ length: 20_001 }, () => 1)))).toContain("20000 values");
  expect(shapeProblem("[".repeat(32) + "]".repeat(32))).toBeNull();
  expect(shapeProblem("[".repeat(33))).toContain("32 deep");
  expect(shapeProblem('{"a":'.repeat(900_000))).toContain("deep");
});

test("what it refuses costs little", () => {
  const began = performance.now();
  for (const bad of ["[".repeat(1 << 20), `[${"1,".repeat(1 << 19)}`])
    expect(shapeProblem(bad)).not.toBeNull();
  expect(performance.now() - began).toBeLessThan(200);
});
