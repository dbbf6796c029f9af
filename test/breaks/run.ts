/**
 * Proves that tests can fail: applies one deliberate break to a copy of the checkout, runs the test that must notice it,
 * expects red, and throws the copy away.
 *
 *   bun test/breaks/run.ts [NAME…]        (default: all)
 *
 * A break is `<name>.break`: a line `test: COMMAND` (run in the copy), a line `why: …`, an empty line, and a unified diff.
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";

const ROOT = `${import.meta.dir}/../..`;
/** One test, VMs included, ms. */
const LIMIT_MS = 300_000;

interface Break {
  name: string;
  test: string;
  why: string;
  diff: string;
}

function load(name: string): Break {
  const text = readFileSync(`${import.meta.dir}/${name}.break`, "utf8");
  const [head = "", ...rest] = text.split("\n\n");
  const field = (key: string) => head.match(new RegExp(`^${key}: (.+)$`, "m"))?.[1] ?? "";
  const [test, why] = [field("test"), field("why")];
  if (!test || !why) throw new Error(`${name}.break: lines 'test: …' and 'why: …' are needed`);
  return { name, test, why, diff: rest.join("\n\n") };
}

/** The tracked files of this checkout as they are now, with its dependencies. */
function copy(): string {
  const dir = mkdtempSync("/var/tmp/bhatti-break-");
  const files = Bun.spawnSync(["git", "ls-files", "-z"], { cwd: ROOT }).stdout.toString();
  for (const file of files.split("\0").filter(Boolean)) cpSync(`${ROOT}/${file}`, `${dir}/${file}`);
  symlinkSync(`${ROOT}/node_modules`, `${dir}/node_modules`);
  // The agent is part of what is tested: a break in it is built, anything else uses what is there.
  cpSync(`${ROOT}/dist`, `${dir}/dist`, { recursive: true });
  return dir;
}

/** What went wrong, or null when the test went red as it should. */
async function prove(one: Break): Promise<string | null> {
  const dir = copy();
  try {
    const applied = Bun.spawnSync(["patch", "-p1", "--no-backup-if-mismatch", "-s"], {
      cwd: dir,
      stdin: Buffer.from(one.diff),
    });
    if (applied.exitCode !== 0) return `the diff does not apply: ${applied.stdout}${applied.stderr}`;
    for (const module of ["lohar", "edge"]) {
      if (!new RegExp(`^\\+\\+\\+ b/${module}/`, "m").test(one.diff)) continue;
      const built = Bun.spawnSync([`${module}/build.sh`], { cwd: dir });
      if (built.exitCode !== 0) return `the broken ${module} does not build: ${built.stderr}`;
    }
    const child = Bun.spawn(["bash", "-c", one.test], { cwd: dir, stdout: "pipe", stderr: "pipe" });
    const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
    const [out, err] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    const status = await child.exited;
    clearTimeout(timer);
    const text = out + err;
    if (status === 0) return "the test stayed green";
    // Red for the right reason: an assertion of a test, not a suite that could not start.
    if (!/^\(fail\)|^--- FAIL|^FAIL/m.test(text))
      return `no test failed (status ${status}):\n${text.slice(-1500)}`;
    return null;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const all = readdirSync(import.meta.dir)
  .filter((file) => file.endsWith(".break"))
  .map((file) => file.slice(0, -6))
  .sort();
const wanted = process.argv.slice(2);
let failed = 0;
for (const name of wanted.length > 0 ? wanted : all) {
  const one = load(name);
  const began = Date.now();
  const problem = await prove(one);
  const seconds = Math.round((Date.now() - began) / 1000);
  if (problem) failed++;
  console.log(
    `${problem ? "NOT RED" : "red    "} ${name} (${seconds} s): ${one.why}${problem ? `\n  ${problem}` : ""}`,
  );
}
const count = wanted.length > 0 ? wanted.length : all.length;
console.log(`${count - failed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
