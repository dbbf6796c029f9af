/** The command line against a real daemon and real VMs. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { Installation } from "./harness.ts";

let installation: Installation;
let home: string;

beforeAll(async () => {
  installation = await Installation.create();
  home = mkdtempSync("/tmp/bhatti-home-");
}, 300_000);
afterAll(async () => {
  rmSync(home, { recursive: true, force: true });
  await installation?.remove();
}, 120_000);

function spawn(args: string[], stdin: Blob | "ignore" = "ignore") {
  return Bun.spawn([process.execPath, `${import.meta.dir}/../../src/main.ts`, ...args], {
    stdin,
    stdout: "pipe",
    stderr: "pipe",
    env: {
      PATH: process.env.PATH!,
      HOME: home,
      BHATTI_CONFIG: "",
      BHATTI_URL: installation.url,
      BHATTI_TOKEN: installation.key(),
    },
  });
}

async function cli(args: string[], stdin?: Blob) {
  const child = spawn(args, stdin);
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).bytes(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { out: Buffer.from(out), text: Buffer.from(out).toString(), err, code };
}

test("a first session: create, exec, files, snapshot, fork, stop, destroy", async () => {
  expect((await cli(["create", "dev", "--memory", "256"])).code).toBe(0);
  expect(await cli(["exec", "dev", "--", "hostname"])).toMatchObject({ text: "dev\n", code: 0 });
  expect(JSON.parse((await cli(["list", "--json"])).text)).toMatchObject([{ name: "dev", thermal: "hot" }]);
  const bytes = crypto.getRandomValues(new Uint8Array(3_000_000));
  expect((await cli(["file", "write", "dev", "/workspace/b"], new Blob([bytes]))).code).toBe(0);
  expect((await cli(["file", "read", "dev", "/workspace/b"])).out.equals(Buffer.from(bytes))).toBe(true);
  expect((await cli(["snapshot", "create", "dev", "--name", "s1"])).code).toBe(0);
  expect((await cli(["fork", "dev", "--name", "twin"])).code).toBe(0);
  expect(await cli(["exec", "twin", "--", "hostname"])).toMatchObject({ text: "twin\n" });
  expect((await cli(["stop", "dev"])).code).toBe(0);
  expect((await cli(["stop", "dev"])).code).toBe(0);
  expect((await cli(["start", "dev"])).code).toBe(0);
  expect((await cli(["snapshot", "restore", "dev", "s1"])).code).toBe(0);
  expect((await cli(["snapshot", "resume", "s1", "--name", "third"])).code).toBe(0);
  expect((await cli(["inspect", "third", "--json"])).text).toContain('"memory_held_bytes"');
  expect((await cli(["destroy", "twin", "third", "--yes"])).code).toBe(0);
  expect((await cli(["snapshot", "delete", "s1", "--yes"])).code).toBe(0);
}, 120_000);

test("exec is exact: binary output, stdin to its end, stderr apart, exit codes", async () => {
  const bytes = crypto.getRandomValues(new Uint8Array(2_000_000));
  expect((await cli(["exec", "dev", "--", "cat"], new Blob([bytes]))).out.equals(Buffer.from(bytes))).toBe(
    true,
  );
  expect(await cli(["exec", "dev", "--", "sh", "-c", "echo out; echo err >&2; exit 9"])).toMatchObject({
    text: "out\n",
    err: "err\n",
    code: 9,
  });
  expect((await cli(["exec", "dev", "--", "no-such-command"])).code).toBe(127);
  expect((await cli(["exec", "dev", "--timeout", "1", "--", "sleep", "60"])).code).toBe(124);
  expect((await cli(["exec", "nobody", "--", "true"])).err).toContain("not found");
}, 60_000);

test("Ctrl-C kills the remote command", async () => {
  const child = spawn(["exec", "dev", "--", "sh", "-c", "echo $$ >/tmp/pid; echo started; exec sleep 1000"]);
  await child.stdout.getReader().read();
  child.kill("SIGINT");
  expect(await child.exited).toBe(130);
  let state = "";
  for (let i = 0; i < 50 && state !== "dead"; i++) {
    state = await installation.api.sh(
      "dev",
      "kill -0 $(cat /tmp/pid) 2>/dev/null && echo alive || echo dead",
    );
    await Bun.sleep(100);
  }
  expect(state).toBe("dead");
}, 60_000);

test("errors: wrong key, unknown flags, no server; events and status for operators", async () => {
  const wrong = Bun.spawnSync([process.execPath, `${import.meta.dir}/../../src/main.ts`, "list"], {
    env: { PATH: process.env.PATH!, HOME: home, BHATTI_URL: installation.url, BHATTI_TOKEN: "bht_wrong" },
  });
  expect(wrong.exitCode).toBe(1);
  expect(wrong.stderr.toString()).toContain("api key");
  expect(await cli(["list", "--no-such-flag"])).toMatchObject({
    code: 2,
    err: expect.stringContaining("--no-such-flag"),
  });
  const nobody = Bun.spawnSync([process.execPath, `${import.meta.dir}/../../src/main.ts`, "list"], {
    env: { PATH: process.env.PATH!, HOME: home, BHATTI_URL: "http://127.0.0.1:1", BHATTI_TOKEN: "bht_x" },
  });
  expect(nobody.exitCode).toBe(1);
  expect(nobody.stderr.toString()).toContain("is the daemon running");
  expect(JSON.parse((await cli(["admin", "status", "--json"])).text)).toMatchObject({ engine: "qemu" });
  expect((await cli(["admin", "events", "--json"])).text).toContain("sandbox.created");
  expect((await cli(["admin", "metrics"])).text).toContain("bhatti_sandboxes_hot");
  expect((await cli(["destroy", "dev", "--yes"])).code).toBe(0);
}, 60_000);
