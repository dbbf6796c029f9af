/** Runs inside the lab: a burner in the group of a VMM with half a CPU and 64 MiB, and the same one without a group. */
import { readFileSync, writeFileSync } from "node:fs";
import { Cgroups } from "../../../src/engine/host/cgroup.ts";

const SECONDS = 4;
const groups = new Cgroups();
const spec = { id: `burn${process.pid}`, shape: { vcpus: 1, memoryMib: 64 } } as Parameters<
  Cgroups["create"]
>[0];

/** A shell line in `group` (or where we are); the group is entered before anything runs. */
function start(line: string, group: string | null) {
  const enter = group ? `echo $$ > ${group}/cgroup.procs; ` : "";
  return Bun.spawn(["sh", "-c", enter + line], { stdout: "pipe", stderr: "ignore" });
}

async function cpu(group: string | null): Promise<number> {
  const child = start(`exec timeout ${SECONDS} sh -c 'while :; do :; done'`, group);
  await child.exited;
  const { cpuTime } = child.resourceUsage()!;
  return Number(cpuTime.total) / 1e6 / SECONDS;
}

async function memory(group: string | null): Promise<string> {
  const child = start("head -c 500000000 /dev/zero | tail -c 450000000 >/dev/null && echo lives", group);
  return (await new Response(child.stdout).text()).trim() || "killed";
}

async function pids(group: string | null): Promise<number> {
  const forks =
    "$n = 0; for (1..400) { my $p = fork; last unless defined $p; if (!$p) { sleep 5; exit } $n++ } print $n";
  const child = start(`exec perl -e '${forks}'`, group);
  return Number(await new Response(child.stdout).text());
}

const what = process.argv[2] as "cpu" | "memory" | "pids";
const group = await groups.create(spec, 0.5);
if (!group) throw new Error("no cgroup v2 controllers here");
try {
  const run = { cpu, memory, pids }[what];
  const limited = await run(group);
  const events = readFileSync(`${group}/memory.events`, "utf8");
  const free = await run(null);
  const oomKills = Number(events.match(/^oom_kill (\d+)/m)?.[1]);
  console.log(JSON.stringify({ limited, free, ...(what === "memory" ? { oomKills } : {}) }));
} finally {
  writeFileSync(`${group}/cgroup.kill`, "1");
  await Bun.sleep(500);
  await groups.remove(group);
}
