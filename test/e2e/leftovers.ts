/** What test installations without a living owner left on the host: prints it, removes it, ends with 1 if there was any. */
import { readdirSync, readFileSync } from "node:fs";
import { createLog } from "../../src/lib/log.ts";
import { run } from "../../src/lib/run.ts";
import { HostNetwork } from "../../src/network/create.ts";
import { readHostState } from "../../src/network/host-state.ts";
import { Names } from "../../src/network/names.ts";
import { abandonedBases } from "./claim.ts";

/** Uids of one base: see Names.uid. */
const UIDS = 5000;

const tables = (await run(["nft", "list", "tables"])).split("\n").map((line) => line.split(" ").at(-1));
const processes = readdirSync("/proc")
  .filter((name) => /^\d+$/.test(name))
  .map((pid) => ({ pid: Number(pid), uid: uidOf(pid) }));

let found = 0;
const tell = (text: string) => {
  found++;
  console.log(`left over: ${text}`);
};
for (const { base, prefix } of abandonedBases()) {
  const names = new Names(prefix, base);
  for (const { pid, uid } of processes) {
    if (uid < names.uid(0) || uid >= names.uid(0) + UIDS) continue;
    tell(`process ${pid} of uid ${uid}`);
    process.kill(pid, "SIGKILL");
  }
  const { slots, bridges } = readHostState(names);
  for (const slot of slots) tell(`namespace ${names.netns(slot)}`);
  for (const index of bridges) tell(`bridge ${names.bridge(index)}`);
  if (tables.includes(names.table)) tell(`nft table ${names.table}`);
  else if (slots.size + bridges.size === 0) continue;
  await new HostNetwork({ prefix, base, poolSize: 0, dnsUpstreams: [], log: createLog("error") }).purge();
}
process.exit(found > 0 ? 1 : 0);

function uidOf(pid: string): number {
  try {
    return Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
