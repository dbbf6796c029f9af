/** A test process that is killed leaves a daemon and VMs, which live on as they should: who has its base next ends them. */
import { expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { run } from "../../src/lib/run.ts";
import { removeLeftovers } from "./base-leftovers.ts";
import { claimBase } from "./claim.ts";
import { prepareBase } from "./harness.ts";

test("daemon, VMM, keeper, namespaces, bridge, rules and mount of a killed test process are gone before its base is used", async () => {
  await prepareBase();
  const code = `
    import { Installation } from "./test/e2e/harness.ts";
    const installation = await Installation.create();
    await installation.api.create({ name: "orphan" });
    Bun.spawnSync(["ip", "netns", "add", installation.prefix + "-g0"]);
    const { prefix, base, dataDir, pid } = installation;
    console.log(JSON.stringify({ prefix, base, dataDir, daemon: pid, vmm: installation.vmmPid("orphan") }));
    process.kill(process.pid, "SIGKILL");`;
  const killed = Bun.spawn([process.execPath, "-e", code], {
    cwd: `${import.meta.dir}/../..`,
    stdout: "pipe",
    stderr: "pipe",
    // Its record would have the base looked for at the end of the whole run as well.
    env: { ...process.env, BHATTI_TEST_CLAIMS: "" },
  });
  const left = JSON.parse(await new Response(killed.stdout).text());
  await killed.exited;
  const keeper = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${left.vmm}/status`, "utf8"))![1]);
  const lives = (pid: number) =>
    existsSync(`/proc/${pid}/cmdline`) && readFileSync(`/proc/${pid}/cmdline`).length > 0;
  const there = async () => ({
    processes: [left.daemon, left.vmm, keeper].filter(lives).length,
    namespaces:
      (await run(["ip", "netns", "list"])).split("\n").filter((line) => line.startsWith(left.prefix)).length >
      0,
    bridge: existsSync(`/sys/class/net/${left.prefix}b1`),
    rules: (await run(["nft", "list", "tables"])).includes(`bhatti_${left.prefix}`),
    mount: readFileSync("/proc/mounts", "utf8").includes(`${left.dataDir}/reserved`),
  });
  // The twin: until somebody takes the base, all of it lives.
  expect(await there()).toEqual({ processes: 3, namespaces: true, bridge: true, rules: true, mount: true });

  const claims: ReturnType<typeof claimBase>[] = [];
  try {
    do claims.push(claimBase());
    while (claims.at(-1)!.base < left.base);
    const gone = { processes: 0, namespaces: false, bridge: false, rules: false, mount: false };
    expect(await there()).toEqual(gone);
  } finally {
    // Also when that failed: the base is still ours.
    if (claims.some(({ base }) => base === left.base))
      await removeLeftovers(left.base, left.prefix, () => {});
    for (const { release } of claims) release();
    rmSync(left.dataDir, { recursive: true, force: true });
  }
}, 240_000);
