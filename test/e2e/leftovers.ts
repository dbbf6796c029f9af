/**
 * What one run of the suites left on the host: prints it, removes it, ends with 1 if there was any.
 *
 *   bun test/e2e/leftovers.ts CLAIMS        (the file that BHATTI_TEST_CLAIMS named in that run)
 *   bun test/e2e/leftovers.ts --base N      (what is on the host of one base, which the caller has claimed)
 *
 * Its own only: processes that carry the name of that file in their environment, and whatever belongs to the bases in it.
 */
import { readFileSync } from "node:fs";
import { endProcesses, removeLeftovers, variables } from "./base-leftovers.ts";
import { claimAgain, prefixOf } from "./claim.ts";

let found = 0;
const tell = (text: string) => {
  found++;
  console.log(`left over: ${text}`);
};

const [what, number] = process.argv.slice(2) as [string, string?];
if (what === "--base") await removeLeftovers(Number(number), prefixOf(Number(number)), tell);
else {
  // Whoever calls this has the variable as well.
  const own = new Set<number>();
  for (let pid = process.pid; pid > 1; pid = parentOf(pid)) own.add(pid);
  await endProcesses(
    "of the run",
    tell,
    (pid) => !own.has(pid) && variables(pid).includes(`BHATTI_TEST_CLAIMS=${what}`),
  );
  for (const { base, prefix, release } of claimAgain(what)) {
    await removeLeftovers(base, prefix, tell);
    release();
  }
}
process.exit(found > 0 ? 1 : 0);

function parentOf(pid: number): number {
  try {
    return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
