/**
 * What one run of the suites left on the host: prints it, removes it, ends with 1 if there was any.
 *
 *   bun test/e2e/leftovers.ts CLAIMS        (the file that BHATTI_TEST_CLAIMS named in that run)
 *
 * Its own only: processes that carry the name of that file in their environment, and whatever belongs to the bases in it.
 */
import { readdirSync, readFileSync } from "node:fs";
import { createLog } from "../../src/lib/log.ts";
import { run } from "../../src/lib/run.ts";
import { HostNetwork } from "../../src/network/create.ts";
import { readHostState } from "../../src/network/host-state.ts";
import { Names } from "../../src/network/names.ts";
import { claimAgain } from "./claim.ts";

/** Uids of one base: see Names.uid. */
const UIDS = 5000;
const record = process.argv[2]!;

let found = 0;
const tell = (text: string) => {
  found++;
  console.log(`left over: ${text}`);
};
const end = (what: string, wanted: (pid: number) => boolean) => {
  for (const pid of readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)) {
    if (!wanted(pid)) continue;
    tell(`process ${pid} ${what}: ${read(pid, "cmdline").replaceAll("\0", " ").slice(0, 120)}`);
    process.kill(pid, "SIGKILL");
  }
};

// Whoever calls this has the variable as well.
const own = new Set<number>();
for (let pid = process.pid; pid > 1; pid = Number(/^PPid:\s+(\d+)/m.exec(read(pid, "status"))?.[1] ?? 0))
  own.add(pid);
end(
  "of the run",
  (pid) => !own.has(pid) && read(pid, "environ").split("\0").includes(`BHATTI_TEST_CLAIMS=${record}`),
);

for (const { base, prefix, release } of claimAgain(record)) {
  const names = new Names(prefix, base);
  end(`of base ${base}`, (pid) => {
    const uid = Number(/^Uid:\s+(\d+)/m.exec(read(pid, "status"))?.[1] ?? 0);
    return uid >= names.uid(0) && uid < names.uid(0) + UIDS;
  });
  const { slots, bridges } = readHostState(names);
  const tables = (await run(["nft", "list", "tables"])).split("\n").map((line) => line.split(" ").at(-1));
  for (const slot of slots) tell(`namespace ${names.netns(slot)}`);
  for (const index of bridges) tell(`bridge ${names.bridge(index)}`);
  if (tables.includes(names.table)) tell(`nft table ${names.table}`);
  if (slots.size + bridges.size > 0 || tables.includes(names.table))
    await new HostNetwork({ prefix, base, poolSize: 0, dnsUpstreams: [], log: createLog("error") }).purge();
  release();
}
process.exit(found > 0 ? 1 : 0);

function read(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}
