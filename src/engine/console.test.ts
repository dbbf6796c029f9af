import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { beginConsole, lastLines, readConsole } from "./console.ts";

const dir = mkdtempSync("/tmp/bhatti-console-");
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("the boot before is kept beside it, both parts of its ring; nothing is the empty text", async () => {
  await beginConsole(dir);
  expect(readConsole(dir)).toBe("");
  writeFileSync(`${dir}/console.log.1`, "one ");
  writeFileSync(`${dir}/console.log`, "two");
  expect(readConsole(dir)).toBe("one two");
  await beginConsole(dir);
  expect(readConsole(dir)).toBe("");
  writeFileSync(`${dir}/console.log`, "second boot\n");
  expect(readConsole(dir)).toBe("second boot\n");
  expect(readConsole(dir, 6, true)).toBe("ne two");
  await beginConsole(dir);
  expect(readConsole(dir, 100, true)).toBe("second boot\n");
});

test("last lines: no empty ones, no control characters, bounded", () => {
  const lines = lastLines(`a\r\n\r\n\x1b[31mred\x1b[0m\x07\n   \n${"y".repeat(1000)}\n`, 2, 50);
  expect(lines).toEqual(["red", "y".repeat(50)]);
});
