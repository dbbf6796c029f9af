/** Ends and removes whatever of one network base is on this host: what a killed test process left, its VMs above all. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createLog } from "../../src/lib/log.ts";
import { run } from "../../src/lib/run.ts";
import { HostNetwork } from "../../src/network/create.ts";
import { readHostState } from "../../src/network/host-state.ts";
import { Names } from "../../src/network/names.ts";

/** Uids of one base: see Names.uid. */
const UIDS = 5000;
/** How long what was killed may take to be gone, ms. */
const GONE_MS = 10_000;

type Tell = (text: string) => void;

/** The variable that a daemon of a test has: it runs as root, and would start again what is ended below it. */
export const BASE_VARIABLE = "BHATTI_TEST_BASE";

/** Only while the base is claimed, so that nobody builds there meanwhile. */
export async function removeLeftovers(base: number, prefix: string, tell: Tell): Promise<void> {
  const names = new Names(prefix, base);
  const of = `of base ${base}`;
  await endProcesses(of, tell, (pid) => variables(pid).includes(`${BASE_VARIABLE}=${base}`));
  // VMMs and resolvers; keepers, whose VMM ends with them.
  const ours = (pid: number) => {
    const uid = Number(/^Uid:\s+(\d+)/m.exec(read(pid, "status"))?.[1] ?? 0);
    return uid >= names.uid(0) && uid < names.uid(0) + UIDS;
  };
  const netns = new RegExp(`\\0--netns\\0${prefix}\\d+\\0`);
  await endProcesses(of, tell, (pid) => ours(pid) || netns.test(read(pid, "cmdline")));
  // Stand-ins of the network tests: they have no slot.
  for (const name of list("/run/netns").filter((name) => name.startsWith(`${prefix}-`))) {
    tell(`namespace ${name}`);
    await run(["ip", "netns", "delete", name]);
  }
  for (const name of list("/sys/class/net").filter((name) => name.startsWith(`${prefix}-`))) {
    tell(`interface ${name}`);
    await run(["ip", "link", "delete", name]).catch(() => {}); // its other end was in one of those
  }
  const { slots, bridges } = readHostState(names);
  const tables = (await run(["nft", "list", "tables"])).split("\n").map((line) => line.split(" ").at(-1));
  for (const slot of slots) tell(`namespace ${names.netns(slot)}`);
  for (const index of bridges) tell(`bridge ${names.bridge(index)}`);
  if (tables.includes(names.table)) tell(`nft table ${names.table}`);
  if (slots.size + bridges.size > 0 || tables.includes(names.table))
    await new HostNetwork({ prefix, base, poolSize: 0, dnsUpstreams: [], log: createLog("error") }).purge();
  for (const at of reservesOf(base, prefix)) {
    tell(`mount ${at}`);
    await run(["umount", at]);
  }
}

/** Kills the processes that are wanted, and waits until they are gone. */
export async function endProcesses(
  what: string,
  tell: Tell,
  wanted: (pid: number) => boolean,
): Promise<void> {
  const pids = list("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pid !== process.pid && wanted(pid));
  for (const pid of pids) {
    const line = read(pid, "cmdline").replaceAll("\0", " ").slice(0, 120);
    // One without a command line has given up its memory: it ends, or waits for its parent to ask how it ended.
    if (line) tell(`process ${pid} ${what}: ${line}`);
    try {
      process.kill(pid, "SIGKILL");
    } catch {} // it ended by itself
  }
  // One that nobody has waited for has closed its files: what it had mounted or bound is free.
  const lives = (pid: number) => /^State:\s+[^ZX]/m.test(read(pid, "status"));
  for (const end = Date.now() + GONE_MS; pids.some(lives) && Date.now() < end; ) await Bun.sleep(20);
}

/** Memory reserves of test installations with this base that are mounted. */
function reservesOf(base: number, prefix: string): string[] {
  return readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((at) => at.endsWith("/reserved") && existsSync(`${at}/../config.yaml`))
    .filter((at) => {
      const config = Bun.YAML.parse(readFileSync(`${at}/../config.yaml`, "utf8")) as Record<string, unknown>;
      return config?.network_base === base && config.network_prefix === prefix;
    });
}

export const variables = (pid: number): string[] => read(pid, "environ").split("\0");

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}

function list(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
