import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { rotate } from "./rotate.ts";

test("a log is cut while its writer goes on, without a hole; a bounded number of old ones is kept", async () => {
  const dir = mkdtempSync("/tmp/bhatti-rotate-");
  const log = `${dir}/bhatti.log`;
  // As the supervisor starts the daemon: the file is its stderr, open for appending.
  const writer = Bun.spawn(
    [
      "sh",
      "-c",
      'exec >>"$1"; for i in $(seq 6); do head -c 5000 /dev/zero | tr "\\0" $i; echo; read _; done',
      "-",
      log,
    ],
    {
      stdin: "pipe",
    },
  );
  const grown = async () => {
    for (let i = 0; i < 200 && !(existsSync(log) && statSync(log).size >= 5001); i++) await Bun.sleep(10);
  };
  try {
    for (let i = 1; i <= 5; i++) {
      await grown();
      expect(rotate(log, 10_000)).toBe(false);
      expect(rotate(log, 4000)).toBe(true);
      expect(statSync(log).size).toBe(0);
      expect(readFileSync(`${log}.1`, "utf8")).toBe(`${String(i).repeat(5000)}\n`);
      writer.stdin.write("\n");
      writer.stdin.flush();
    }
    await grown();
    expect(readFileSync(log, "utf8")).toBe(`${"6".repeat(5000)}\n`);
    expect(["1", "2", "3", "4"].map((n) => existsSync(`${log}.${n}`))).toEqual([true, true, true, false]);
    expect(rotate(`${dir}/none`, 1)).toBe(false);
  } finally {
    writer.kill();
    rmSync(dir, { recursive: true, force: true });
  }
}, 20_000);
