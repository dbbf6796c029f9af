/**
 * `bun` in the lab: runs `bun test ARGUMENT…` on this checkout inside of it, with what it prints coming out here and its report
 * where --reporter-outfile says. Ends with the status of the tests.
 *
 *   bun test/lab/in.ts test --timeout 300000 test/e2e/lifecycle.test.ts
 */
import { existsSync, writeFileSync } from "node:fs";
import { prepareBase } from "../e2e/harness.ts";
import { IN_LAB, Lab } from "./machine.ts";

const REPORT = "/root/report.xml";
const OUTFILE = "--reporter-outfile=";
/** Of our environment, what tests read; the rest belongs to this machine. */
const PASSED = /^(BHATTI_TEST_(KERNEL_ARGS|ENGINE)|BHATTI_FUZZ_\w+|BHATTI_JAIL_SECCOMP)$/;

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

const args = process.argv.slice(2);
const outfile = args.find((arg) => arg.startsWith(OUTFILE))?.slice(OUTFILE.length);
const env: Record<string, string> = {
  BHATTI_TEST_PREPARED: IN_LAB.base,
  ...(process.env.BHATTI_FIRECRACKER_DIR ? { BHATTI_FIRECRACKER_DIR: IN_LAB.firecracker } : {}),
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => PASSED.test(name))),
};

await prepareBase(console.log);
const began = Date.now();
const lab = await Lab.start();
console.log(`the lab is up after ${((Date.now() - began) / 1000).toFixed(0)} s`);
const end = async (status: number): Promise<never> => {
  await lab.stop();
  process.exit(status);
};
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void end(130));

const variables = Object.entries(env).map(([name, value]) => `${name}=${quote(value)}`);
const command = args.map((arg) => quote(arg.startsWith(OUTFILE) ? OUTFILE + REPORT : arg));
const status = await lab.show(
  `cd ${IN_LAB.src} && PATH=$PWD/node_modules/.bin:/usr/sbin:/sbin:$PATH env ${variables.join(" ")} bun ${command.join(" ")}`,
);
if (!lab.alive) {
  console.log("error: the lab's machine ended by itself: what failed says nothing about the product");
  await end(3);
}
if (status !== 0) console.log(await lab.ok("echo --- kernel of the lab:; dmesg | tail -40"));
if (outfile) {
  const { stdout } = await lab.sh(`cat ${REPORT}`);
  if (stdout) writeFileSync(outfile, stdout);
  else if (existsSync(outfile)) writeFileSync(outfile, "");
}
await end(status);
