import { expect, test } from "bun:test";
import { run } from "./run.ts";

test.skipIf(process.getuid?.() !== 0)(
  "flushed rules come back at once; what was connected against them meanwhile is cut off",
  async () => {
    const out = await run([
      "unshare",
      "--net",
      "--mount",
      "sh",
      "-ec",
      // The interfaces of the new namespace, and a place for namespaces that nobody else sees.
      'mount -t sysfs none /sys; mkdir -p /run/netns; mount -t tmpfs none /run/netns; ip link set lo up; exec "$@"',
      "sh",
      process.execPath,
      `${import.meta.dir}/flush.fixture.ts`,
    ]);
    const seen = JSON.parse(out);
    expect(seen.before).toBe("silence");
    expect(seen.backMs).toBeLessThan(2000);
    expect(seen.after).toEqual(["silence", expect.stringMatching(/^internet /)]);
    expect([seen.chainFlushed, seen.bridgeDeleted]).toEqual([true, true]);
    expect(seen.unwatched).toBe(true);
    expect(seen.watched).toBe(false);
    expect(seen.attached).toEqual(["silence", expect.stringMatching(/^internet /)]);
    expect(seen.warnings).toBe(5);
  },
  60_000,
);
