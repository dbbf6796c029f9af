/**
 * A VMM that was taken over, in the jail of Firecracker's jailer: another program in its place, without even the filter of system
 * calls that Firecracker brings. What it tries, one by one; and what is left of it. Needs the jailer, and no KVM.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { loharPath } from "../../src/daemon/programs.ts";
import { liveUids } from "../../src/engine/host/users.ts";
import { run } from "../../src/lib/run.ts";
import { FIRECRACKER } from "../e2e/engine-bench.ts";
import { buildProgram } from "./build-program.ts";

/** Beyond the users of every network of tests. */
const UID = 3_999_998_000;
const NETNS = `bh-hostile-${process.pid}`;
const LIMIT = 2 << 20;

const refused = [
  ...["write kernel", "chmod kernel", "remove kernel", "large memory", "64 MiB of files"],
  ...["host file", "host file by /..", "host file by /../..", "host file by /proc/1/root"],
  ...["host file by /old_root", "proc"],
  ...["setuid", "chroot", "mount", "device", "cgroup", "host name", "module", "port I/O", "clock"],
  ...["signal to all others", "trace", "raw socket", "server on the host", "abstract socket"],
];
const allowed = ["own memory", "read kernel"];

if (!FIRECRACKER) {
  console.log(
    "SKIPPED: Firecracker's jail: BHATTI_FIRECRACKER_DIR names no folder with firecracker and jailer",
  );
  test.skip("Firecracker's jail: BHATTI_FIRECRACKER_DIR is not set", () => {});
} else {
  const dir = mkdtempSync("/tmp/bhatti-hostile-vmm-");
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const abstract = Bun.listen({ unix: "\0bhatti-hostile-vmm", socket: { data() {} } });
  let lohar: string;

  beforeAll(async () => {
    lohar = await loharPath(`${dir}/bin`);
    await run(["ip", "netns", "add", NETNS]);
    mkdirSync(`${dir}/vmm`);
    copyFileSync(await buildProgram("hostile-vmm"), `${dir}/vmm/firecracker`);
    chmodSync(`${dir}/vmm/firecracker`, 0o755);
    writeFileSync(`${dir}/outside`, "of the host", { mode: 0o644 });
    for (const path of [dir, `${dir}/vmm`]) chmodSync(path, 0o755);
  }, 120_000);
  afterAll(async () => {
    server.stop(true);
    abstract.stop(true);
    await run(["ip", "netns", "del", NETNS]);
    rmSync(dir, { recursive: true, force: true });
  });

  /** Runs it once in a new jail of the same id; what it said. */
  async function attack(): Promise<string> {
    const at = `${dir}/sandbox`;
    for (const name of ["vm", "out"]) mkdirSync(`${at}/${name}`, { recursive: true, mode: 0o700 });
    const file = (name: string, uid: number) => {
      writeFileSync(`${at}/${name}`, "x");
      truncateSync(`${at}/${name}`, LIMIT);
      chownSync(`${at}/${name}`, uid, uid);
      chmodSync(`${at}/${name}`, uid ? 0o600 : 0o644);
      return `${at}/${name}`;
    };
    rmSync(`${at}/console.log`, { force: true });
    const keeper = Bun.spawn(
      [
        ...[lohar, "jail", "--jailer", `${FIRECRACKER}/jailer`, "--id", "hostile", "--root", `${at}/vm`],
        ...["--netns", NETNS, "--uid", `${UID}`, "--gid", `${UID}`, "--fsize", `${LIMIT}`],
        ...["--log", `${at}/vmm.log`, "--console", `${at}/console.log`, "--log-fifo", `${at}/out/log`],
        ...["--bind", `${file("mem", UID)}:/mem`, "--bind", `${file("kernel", 0)}:/kernel:ro`],
        ...["--", `${dir}/vmm/firecracker`, `127.0.0.1:${server.port}`, `${dir}/outside`],
      ],
      { stdin: "ignore", stdout: "pipe", stderr: "ignore" },
    );
    await keeper.exited;
    const said = readFileSync(`${at}/console.log`, "utf8");
    if (!said.includes("done\n")) throw new Error(`${said}\n${readFileSync(`${at}/vmm.log`, "utf8")}`);
    return said;
  }

  test("it reaches its own files and nothing else: no file, right, process or network of the host", async () => {
    const lines = (await attack()).split("\n");
    const said = new Map(lines.map((line) => line.split(/ (?=no: |yes$)/) as [string, string]));
    for (const what of allowed) expect([what, said.get(what)]).toEqual([what, "yes"]);
    for (const what of refused)
      expect([what, said.get(what) ?? "not tried"]).toEqual([what, expect.stringMatching(/^no: /)]);
    expect([...said.keys()].filter((what) => what && what !== "done").sort()).toEqual(
      [...allowed, ...refused].sort(),
    );
    expect(statSync(`${dir}/sandbox/mem`).size).toBeLessThanOrEqual(LIMIT);
  }, 60_000);

  test("nothing is left of it, and its id can be used again at once", async () => {
    for (let round = 0; round < 3; round++) {
      await attack();
      expect(liveUids(UID, UID).size).toBe(0);
      expect(readdirSync(`${dir}/sandbox/vm`)).toEqual([]);
      expect(readFileSync("/proc/mounts", "utf8")).not.toContain(dir);
    }
    expect(existsSync("/sys/fs/cgroup/firecracker")).toBe(false);
  }, 60_000);
}
