/** Attacker: whoever prepared the folder in which an operator calls `sudo bhatti`, or a variable of that call. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { run } from "../../src/lib/run.ts";

const ROOT = `${import.meta.dir}/../..`;
const dir = mkdtempSync("/tmp/bhatti-folder-");
const trap = `${dir}/trap`;
const ran = `${dir}/ran`;
const seen: string[] = [];
let thief: Bun.Server<undefined>;

beforeAll(async () => {
  thief = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request) {
      seen.push(request.headers.get("authorization") ?? "");
      return Response.json([]);
    },
  });
  for (const name of ["lohar", "edge"])
    if (!existsSync(`${ROOT}/dist/${name}`)) await run([`${ROOT}/${name}/build.sh`]);
  await run([process.execPath, `${ROOT}/packaging/build.ts`, `${dir}/bhatti`], { cwd: ROOT });
  // The twin: any other program compiled by Bun, as Bun compiles by itself.
  writeFileSync(
    `${dir}/twin.ts`,
    'await fetch(process.env.BHATTI_URL ?? "http://127.0.0.1:1", { headers: { authorization: "Bearer twin" } }).catch(() => {});',
  );
  await run([process.execPath, "build", "--compile", `${dir}/twin.ts`, "--outfile", `${dir}/twin`], {
    cwd: dir,
  });

  mkdirSync(`${trap}/node_modules/pino-pretty`, { recursive: true });
  mkdirSync(`${dir}/home/.bhatti`, { recursive: true });
  writeFileSync(`${dir}/home/.bhatti/config.yaml`, "api_url: http://127.0.0.1:1\nauth_token: bht_secret\n", {
    mode: 0o600,
  });
  const evil = `require("node:fs").appendFileSync(${JSON.stringify(ran)}, (process.env.HOW ?? "folder") + "\\n");`;
  for (const file of ["evil.ts", "node_modules/pino-pretty/index.ts"]) writeFileSync(`${trap}/${file}`, evil);
  writeFileSync(`${trap}/bunfig.toml`, 'preload = ["./evil.ts"]\n');
  for (const file of [".env", ".env.local", ".env.production", ".env.development"])
    writeFileSync(`${trap}/${file}`, `BHATTI_URL=http://127.0.0.1:${thief.port}\nHOW=env-file\n`);
  writeFileSync(`${trap}/tsconfig.json`, '{"compilerOptions":{"paths":{"*":["./evil.ts"]}}}');
  writeFileSync(`${trap}/package.json`, '{"name":"trap","imports":{"#*":"./evil.ts"}}');
}, 120_000);
afterAll(() => {
  thief?.stop(true);
  rmSync(dir, { recursive: true, force: true });
});

/** Runs a program in the trap; what the trap's code left behind. */
async function called(program: string, args: string[], env: Record<string, string> = {}) {
  rmSync(ran, { force: true });
  seen.length = 0;
  const child = Bun.spawn([`${dir}/${program}`, ...args], {
    cwd: trap,
    env: { PATH: process.env.PATH!, HOME: `${dir}/home`, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { out, err, ran: existsSync(ran) ? readFileSync(ran, "utf8") : "", keys: [...seen] };
}

const COMMANDS = [
  ["list"],
  ["version"],
  ["exec", "x", "--", "true"],
  ["doctor", "--json"],
  ["host", "--help"],
];

test("nothing in the current folder is obeyed: bunfig.toml, .env, tsconfig.json, package.json, node_modules", async () => {
  for (const args of COMMANDS) expect(await called("bhatti", args)).toMatchObject({ ran: "", keys: [] });
  expect((await called("bhatti", ["list"])).err).toContain("http://127.0.0.1:1");
  // Not even a request without a key goes where .env says.
  expect(await called("bhatti", ["version", "--server"])).toMatchObject({ keys: [] });
  // The trap works: without the options of the build its code runs, and the key is sent where .env says.
  expect(await called("twin", [])).toMatchObject({ ran: "env-file\n", keys: ["Bearer twin"] });
}, 60_000);

test("variables do not turn the program into another one", async () => {
  const code = `--preload=${trap}/evil.ts`;
  const variables: Record<string, string>[] = [
    { BUN_OPTIONS: code, HOW: "BUN_OPTIONS" },
    { NODE_OPTIONS: `--require=${trap}/evil.ts`, HOW: "NODE_OPTIONS" },
    { BUN_INSPECT_PRELOAD: `${trap}/evil.ts`, BUN_INSPECT: "127.0.0.1:0", HOW: "BUN_INSPECT" },
    { XDG_CONFIG_HOME: trap, HOW: "XDG_CONFIG_HOME" },
  ];
  for (const env of variables)
    for (const args of COMMANDS.slice(0, 2))
      expect(await called("bhatti", args, env)).toMatchObject({ ran: "", keys: [] });
  expect((await called("bhatti", ["run", `${trap}/evil.ts`], { BUN_BE_BUN: "1" })).ran).toBe("");
  // Twins.
  rmSync(`${trap}/bunfig.toml`);
  expect((await called("twin", [], { BUN_OPTIONS: code, HOW: "BUN_OPTIONS" })).ran).toBe("BUN_OPTIONS\n");
  expect((await called("twin", ["run", `${trap}/evil.ts`], { BUN_BE_BUN: "1", HOW: "be" })).ran).toBe("be\n");
}, 60_000);
