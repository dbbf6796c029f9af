import { expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Glob } from "bun";
import { run } from "../lib/run.ts";
import { missingPrograms, PROGRAMS } from "./programs.ts";

const ROOT = `${import.meta.dir}/../..`;

/** The first word of what is run, of a command that is kept for later, and programs that are named by their path. */
const CALLS = [
  /\b(?:run|runTool|spawn|spawnSync|bytes)\(\s*\[\s*"([a-z][a-z0-9_.-]*)"/g,
  /\bprogram: \["([a-z][a-z0-9_.-]*)"/g,
  /"\/usr\/s?bin\/([a-z][a-z0-9_.-]*)"/g,
];

/** Another firewall's and another init's, called only where they are; and words of our own command line. */
const NOT_NEEDED = ["iptables-legacy", "systemctl", "exec", "secret"];

async function called(folders: string[], wanted: (file: string) => boolean): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const folder of folders) {
    for (const file of new Glob(`${folder}/**/*.ts`).scanSync(ROOT)) {
      if (!wanted(file)) continue;
      const text = await Bun.file(`${ROOT}/${file}`).text();
      for (const pattern of CALLS)
        for (const [, program] of text.matchAll(pattern)) found.set(program!, file);
    }
  }
  return found;
}

const ofTests = (file: string) => /\.test\.ts$|fixture|test-lab|contract/.test(file);
const listed = (...kinds: string[]) =>
  PROGRAMS.filter((program) => kinds.includes(program.for)).map((program) => program.name);

test("every program that the server calls is listed as one of the product", async () => {
  const calls = await called(["src"], (file) => !ofTests(file));
  expect(calls.size).toBeGreaterThan(20);
  const known = [...listed("product"), ...NOT_NEEDED];
  expect([...calls].filter(([program]) => !known.includes(program))).toEqual([]);
});

test("every program that tests and benchmark call is listed", async () => {
  const calls = new Map([
    ...(await called(["src"], ofTests)),
    ...(await called(["test", "bench"], () => true)),
  ]);
  const known = [...listed("product", "build", "test"), ...NOT_NEEDED];
  expect([...calls].filter(([program]) => !known.includes(program))).toEqual([]);
});

test("nothing of the product is missing here", () => {
  expect(missingPrograms()).toEqual([]);
});

test("set-up finds a missing program, and installs its package alone", async () => {
  const bin = mkdtempSync("/tmp/bhatti-programs-");
  try {
    // A machine without conntrack and ping, whose apt-get says what it was asked for, and does it.
    writeFileSync(
      `${bin}/apt-get`,
      `#!/bin/bash
echo "$*" >>${bin}/asked
for package; do
  case $package in conntrack) ln -s /bin/true ${bin}/conntrack ;; iputils-ping) ln -s /bin/true ${bin}/ping ;; esac
done`,
    );
    chmodSync(`${bin}/apt-get`, 0o755);
    for (const { name } of PROGRAMS)
      if (!["apt-get", "conntrack", "ping"].includes(name))
        await run(["ln", "-sf", Bun.which(name) ?? "/bin/true", `${bin}/${name}`]);
    const script = `set -euo pipefail; LOG=/dev/null; . packaging/lib.sh; PATH=${bin}
      install_programs product; echo; install_programs product test; install_programs product test`;
    await run(["bash", "-c", script], { cwd: ROOT });
    const asked = (await Bun.file(`${bin}/asked`).text()).trim().split("\n");
    expect(asked).toEqual([
      "install -y --no-install-recommends conntrack",
      "install -y --no-install-recommends iputils-ping",
    ]);
  } finally {
    rmSync(bin, { recursive: true, force: true });
  }
});
