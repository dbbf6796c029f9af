/** What test.sh counts: a suite that did not end well is never a good one. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";

const ROOT = `${import.meta.dir}/..`;
let dir: string;

beforeAll(() => {
  dir = mkdtempSync("/tmp/bhatti-suites-");
  const file = (name: string, body: string) =>
    writeFileSync(`${dir}/${name}.test.ts`, `import { expect, test } from "bun:test";\n${body}`);
  file("good", 'test("a", () => {}); test("b", () => {}); test.skip("c", () => {});');
  file("bad", 'test("a", () => {}); test("b", () => { expect(1).toBe(2); });');
  file("slow", 'test("a", () => {}); test("b", () => Bun.sleep(60_000));');
  file("late", 'test("a", () => {}); test("b", () => Bun.sleep(60_000), 50);');
  file("dead", 'test("a", () => {}); test("b", () => { process.kill(process.pid, "SIGKILL"); });');
  file("gone", 'test("a", () => {}); process.exit(0);');
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Outcome {
  output: string;
  /** Result line of each suite without its seconds. */
  results: string[];
  ms: number;
}

/** Runs `script` with the functions of suites.sh, and sums up. `bin`: programs in place of the real ones. */
async function suites(script: string, bin: Record<string, string> = {}): Promise<Outcome> {
  const logs = mkdtempSync(`${dir}/logs-`);
  mkdirSync(`${logs}/results`);
  mkdirSync(`${logs}/bin`);
  for (const [name, body] of Object.entries(bin)) {
    writeFileSync(`${logs}/bin/${name}`, `#!/bin/bash\n${body}\n`);
    chmodSync(`${logs}/bin/${name}`, 0o755);
  }
  const began = performance.now();
  const child = Bun.spawn(
    [
      "bash",
      "-c",
      `LOGS=${logs}; . test/suites.sh; ${script}\nsum; echo "$passed passed, $failed failed, $skipped skipped"; printf '%s\\n' "\${bad[@]}"`,
    ],
    {
      cwd: ROOT,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: {
        ...process.env,
        BHATTI_TEST_AGAIN: "",
        BHATTI_TEST_MINUTES: "",
        PATH: `${logs}/bin:${ROOT}/node_modules/.bin:${process.env.PATH}`,
      },
    },
  );
  const [output] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  const results = await Promise.all(
    readdirSync(`${logs}/results`)
      .filter((name) => !name.startsWith("."))
      .sort()
      .map(async (name) =>
        (await Bun.file(`${logs}/results/${name}`).text()).trim().replace(/^(\S+ \d+ \d+ \d+) \d+/, "$1"),
      ),
  );
  return { output, results, ms: performance.now() - began };
}

test.each([
  ["good", "x 2 0 1"],
  ["bad", "x 1 1 0"],
  ["late", "x 1 1 0 time-outs only"],
  ["dead", /^x \d 1 0 killed$/],
  ["gone", /^x 0 1 0 ran no test$/],
])("a Bun suite that is %s", async (name, expected) => {
  const { results } = await suites(`run_bun x 30 ${dir}/${name}.test.ts`);
  expect(results).toHaveLength(1);
  if (typeof expected === "string") expect(results[0]).toBe(expected);
  else expect(results[0]).toMatch(expected);
});

test("a Bun suite beyond its time counts what passed and says what it is", async () => {
  const { results, output } = await suites(`run_bun x 2 ${dir}/slow.test.ts`);
  expect(results[0]).toMatch(/^x 1 1 0 timed out after \d+ s$/);
  expect(output).toContain("1 passed, 1 failed, 0 skipped");
});

test("a run that has an end stops a suite there, and tells what it did not get to", async () => {
  const { results, ms } = await suites(
    `DEADLINE=$((SECONDS + 2)); run_bun x 60 ${dir}/slow.test.ts; sleep 1; run_bun y 60 ${dir}/good.test.ts`,
  );
  expect(results).toEqual([
    expect.stringMatching(/^x 1 1 0 timed out after \d+ s$/),
    "y 0 1 0 no time was left for it",
  ]);
  expect(ms).toBeLessThan(20_000);
}, 30_000);

const EVENTS = ['{"Action":"pass","Test":"A"}', '{"Action":"skip","Test":"B"}']
  .map((e) => `echo '${e}'`)
  .join(";");

test.each([
  ["ends well", `${EVENTS}`, "go 1 0 1"],
  ["has a failed test", `${EVENTS}; echo '{"Action":"fail","Test":"C"}'; exit 1`, "go 1 1 1"],
  ["does not build", `${EVENTS}; echo '{"Action":"fail","Package":"p"}'; exit 1`, "go 1 1 1 status 1"],
  ["is killed", `${EVENTS}; kill -KILL $$`, "go 1 1 1 killed"],
  ["runs nothing", "exit 0", "go 0 1 0 ran no test"],
])("the Go suite %s", async (_, body, expected) => {
  const { results } = await suites("run_go", { go: body });
  expect(results).toEqual([expected]);
});

test("suites run side by side, as many as asked for, and all of them count", async () => {
  const bun = `sleep 0.5; for a; do case $a in
    --reporter-outfile=*) echo '<testsuites tests="1" failures="0" skipped="0">' >"\${a#*=}" ;; esac; done`;
  const jobs = [1, 2, 3, 4].map((n) => `'j${n} 20 file'`).join(" ");
  const two = await suites(`run_jobs 2 ${jobs}`, { bun });
  expect(two.output).toContain("4 passed, 0 failed, 0 skipped");
  expect(two.results).toHaveLength(4);
  const one = await suites(`run_jobs 1 ${jobs}`, { bun });
  expect(one.ms - two.ms).toBeGreaterThan(500);
}, 30_000);

test("ending all of them ends what they run, and counts as a failure", async () => {
  const { results, ms } = await suites("run_jobs 1 'x 60 file' & sleep 1; end_all; wait", {
    bun: "sleep 60",
  });
  expect(results).toEqual(["x 0 1 0 interrupted"]);
  expect(ms).toBeLessThan(20_000);
}, 30_000);

test("what a run left is found and removed; what another left is not touched", async () => {
  const record = `${dir}/claims`;
  const script = (args: string[], env: Record<string, string> = {}) =>
    Bun.spawnSync([process.execPath, ...args], { cwd: ROOT, env: { ...process.env, ...env } });
  const claim = `import { claimBase } from "${ROOT}/test/e2e/claim.ts"; claimBase().release();`;
  expect(script(["-e", claim], { BHATTI_TEST_CLAIMS: record }).exitCode).toBe(0);
  const line = JSON.parse(readFileSync(record, "utf8"));
  // A base and a prefix that no claim on this machine gets while this test runs.
  writeFileSync(record, JSON.stringify({ ...line, base: 240, prefix: "tzq" }));
  const leave = `
    Bun.spawnSync(["ip", "netns", "add", "tzq7"]);
    const child = Bun.spawn(["sleep", "300"], { detached: true, stdio: ["ignore", "ignore", "ignore"] });
    child.unref();
    console.log(child.pid);
    process.exit(0);`;
  const pid = script(["-e", leave], { BHATTI_TEST_CLAIMS: record }).stdout.toString().trim();
  // A process that nobody has waited for has no command line any more.
  const lives = () => existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`).length > 0;
  const there = () => [existsSync("/run/netns/tzq7"), lives()];
  // Between fork and exec it has none either.
  for (let i = 0; i < 100 && !lives(); i++) await Bun.sleep(20);
  expect(there()).toEqual([true, true]);

  expect(script(["test/e2e/leftovers.ts", `${record}-of-another`]).exitCode).toBe(0);
  expect(there()).toEqual([true, true]);

  const found = script(["test/e2e/leftovers.ts", record]);
  expect(found.exitCode).toBe(1);
  expect(found.stdout.toString()).toContain("left over: namespace tzq7");
  expect(found.stdout.toString()).toContain(`left over: process ${pid}`);
  await Bun.sleep(50);
  expect(there()).toEqual([false, false]);
  expect(script(["test/e2e/leftovers.ts", record]).exitCode).toBe(0);
}, 30_000);

test("a suite that failed is run once more where that is asked for, and named when that run is green", async () => {
  const bun = `[ -e "${dir}/second" ] || { : >"${dir}/second"; exit 1; }
    for a; do case $a in --reporter-outfile=*) echo '<testsuites tests="1" failures="0" skipped="0">' >"\${a#*=}" ;; esac; done`;
  const twice = `run_bun s 20 file; again s run_bun s 20 file; echo "shaky: \${shaky[*]}"`;
  const asked = await suites(`BHATTI_TEST_AGAIN=1; ${twice}`, { bun });
  expect(asked.results).toEqual(["s 1 0 0"]);
  expect(asked.output).toContain("shaky: s");
  rmSync(`${dir}/second`);
  const plain = await suites(twice, { bun });
  expect(plain.output).toContain("shaky: \n");
  expect(plain.results[0]).toStartWith("s 0 1 0");
}, 30_000);

test("a process that has ended and waits for its parent is not left over; one that lives is", async () => {
  // A base that no claim on this machine gets, and its first user.
  const uid = 200_000 + 240 * 5000;
  const leftovers = () =>
    Bun.spawnSync([process.execPath, "test/e2e/leftovers.ts", "--base", "240"], { cwd: ROOT });
  const parent = (program: string) =>
    Bun.spawn(
      [
        "perl",
        "-e",
        `if (my $p = fork) { print "$p\\n"; $| = 1; print ""; sleep 60 } exec qw(setpriv --reuid=${uid} ${program})`,
      ],
      { stdout: "pipe" },
    );
  const childOf = async (child: { stdout: ReadableStream<Uint8Array> }) => {
    const { value } = await child.stdout.getReader().read();
    return Number(new TextDecoder().decode(value));
  };
  const is = async (pid: number, wanted: RegExp) => {
    const status = () => readFileSync(`/proc/${pid}/status`, "utf8");
    for (let i = 0; i < 200 && !(wanted.test(status()) && status().includes(`Uid:\t${uid}`)); i++)
      await Bun.sleep(20);
    expect(status()).toMatch(wanted);
  };
  const [ended, living] = [parent("true"), parent("sleep 60")];
  try {
    await is(await childOf(ended), /^State:\tZ/m);
    const pid = await childOf(living);
    await is(pid, /^State:\tS/m);
    const first = leftovers();
    expect([first.exitCode, first.stdout.toString().trim().split("\n")]).toEqual([
      1,
      [expect.stringContaining(`left over: process ${pid} of base 240: sleep 60`)],
    ]);
    expect(leftovers().exitCode).toBe(0);
  } finally {
    for (const one of [ended, living]) one.kill("SIGKILL");
  }
}, 30_000);
