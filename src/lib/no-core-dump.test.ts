import { expect, test } from "bun:test";

/** Whether the kernel keeps a process that aborts from being dumped: its files in /proc are root's then, and it says so. */
const dumpable = (code: string) => {
  const done = Bun.spawnSync(
    [
      process.execPath,
      "-e",
      `${code}
      const { dlopen } = await import("bun:ffi");
      const { symbols } = dlopen("libc.so.6", { prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" } });
      console.log(symbols.prctl(3, 0, 0, 0, 0));`,
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  return Number(done.stdout.toString());
};

test("a process that asks for it leaves no core dump; the twin would", () => {
  const file = JSON.stringify(`${import.meta.dir}/no-core-dump.ts`);
  expect(dumpable(`if (!(await import(${file})).neverDumped()) throw new Error("refused");`)).toBe(0);
  expect(dumpable("")).toBe(1);
});
