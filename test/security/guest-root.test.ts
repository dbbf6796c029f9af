/**
 * Attacker: root of a guest, who has taken the agent's place (hostile-agent/) and knows its token. Whatever it answers, the
 * daemon goes on, its memory is bounded, other tenants notice nothing, and the sandbox can still be stopped and destroyed.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Api } from "../e2e/api.ts";
import { Installation } from "../e2e/harness.ts";
import { buildProgram } from "./build-program.ts";

/** What the daemon may take more than before, whatever a guest sends, MiB. One frame is 1 MiB, a listing has its own bound. */
const MAX_GROWTH_MB = 200;
/** How long the daemon may be deaf to others, ms; the machine that runs this is shared and emulates its guests. */
const MAX_DEAF_MS = 1500;

let installation: Installation;
let attacker: Api;
let neighbour: Api;

beforeAll(async () => {
  const program = await buildProgram("hostile-agent");
  installation = await Installation.create();
  attacker = installation.user("mallory");
  neighbour = installation.user("alice");
  await neighbour.create({ name: "good" });
  await attacker.create({ name: "evil" });
  // The twin of all that follows: before the attack the agent answers truthfully.
  expect(await attacker.sh("evil", "echo honest")).toBe("honest");
  const bytes = readFileSync(program);
  await attacker.ok("PUT", "/sandboxes/evil/files?path=/workspace/hostile&mode=0755", bytes, {
    headers: { "content-length": String(bytes.length) },
  });
  const { token } = installation.query<{ token: string }>(
    "SELECT token FROM sandboxes WHERE name = 'evil'",
  )[0]!;
  await attacker.ok("POST", "/sandboxes/evil/exec", {
    cmd: ["/workspace/hostile", token],
    user: "root",
    detach: true,
    output_file: "/tmp/hostile.log",
  });
  for (let i = 0; ; i++) {
    const taken = await attacker
      .call(
        "POST",
        "/sandboxes/evil/exec",
        { cmd: ["who"], timeout_sec: 5 },
        { signal: AbortSignal.timeout(40_000) },
      )
      .catch(() => null);
    if (taken?.body?.stdout === "hostile\n") break;
    if (i > 10) {
      const why = await attacker.exec(
        "evil",
        ["sh", "-c", "cat /tmp/hostile.log; ls -l /workspace; ps ax | tail -20"],
        { user: "root" },
      );
      throw new Error(`the agent was not taken over: ${JSON.stringify(taken?.body)} ${JSON.stringify(why)}`);
    }
    await Bun.sleep(500);
  }
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

const rssMb = () =>
  Number(readFileSync(`/proc/${installation.pid}/status`, "latin1").match(/^VmRSS:\s+(\d+)/m)![1]) / 1024;

/** Runs an attack and watches the daemon from outside meanwhile. */
async function watched<T>(attack: () => Promise<T>): Promise<T> {
  const before = rssMb();
  let peak = before;
  let deaf = 0;
  let over = false;
  const memory = setInterval(() => {
    peak = Math.max(peak, rssMb());
  }, 20);
  const listening = (async () => {
    while (!over) {
      const asked = performance.now();
      await fetch(`${installation.url}/health`);
      deaf = Math.max(deaf, performance.now() - asked);
      await Bun.sleep(20);
    }
  })();
  try {
    return await attack();
  } finally {
    over = true;
    clearInterval(memory);
    await listening;
    expect({ growth: Math.round(peak - before), ok: peak - before < MAX_GROWTH_MB }).toMatchObject({
      ok: true,
    });
    expect({ deaf: Math.round(deaf), ok: deaf < MAX_DEAF_MS }).toMatchObject({ ok: true });
  }
}

const exec = (trick: string, ms = 20_000) =>
  attacker
    .call(
      "POST",
      "/sandboxes/evil/exec",
      { cmd: [trick], timeout_sec: 5 },
      { signal: AbortSignal.timeout(ms) },
    )
    .catch((error) => ({ status: 0, body: String(error) }));

test("answers that break the protocol are refused, and told as the guest's fault", async () => {
  for (const trick of [
    "frame-huge",
    "frame-empty",
    "frame-unknown",
    "result-garbage",
    "result-array",
    "result-wrong",
    "error-huge",
    "hang-up",
  ]) {
    const answer = await watched(() => exec(trick));
    expect({ trick, status: answer.status, known: answer.body?.code !== "internal" }).toMatchObject({
      known: true,
    });
    // Whatever comes through is short and of the known shape.
    expect(JSON.stringify(answer.body).length).toBeLessThan(10_000);
    if (answer.status === 200) expect(Number.isInteger(answer.body.exit_code)).toBe(true);
    else expect(answer.status).toBeGreaterThanOrEqual(400);
  }
  expect((await exec("error-ours")).status).toBeGreaterThanOrEqual(500);
}, 180_000);

test("output without end: bounded in memory, ended by the command's time", async () => {
  for (const trick of ["output-forever", "empty-forever", "started-forever", "beats-forever"])
    await watched(() => exec(trick, 15_000));
  // A client that went away takes its request with it: nothing pours in any more.
  await Bun.sleep(1000);
  const cpu = () => {
    const fields = readFileSync(`/proc/${installation.pid}/stat`, "latin1").split(") ")[1]!.split(" ");
    return Number(fields[11]) + Number(fields[12]);
  };
  const before = cpu();
  await Bun.sleep(2000);
  expect(cpu() - before).toBeLessThan(100);
}, 180_000);

/** An error of ours, which says whose fault it is. */
const REFUSED = expect.stringMatching(/"code":"guest_failed"/);

/** Reads an answer's body as far as `bytes` and leaves. */
async function taste(path: string, bytes: number, ms = 15_000) {
  const response = await fetch(`${installation.url}/sandboxes/evil/files?path=/${path}`, {
    headers: { authorization: `Bearer ${installation.key("mallory")}` },
    signal: AbortSignal.timeout(ms),
  });
  const reader = response.body!.getReader();
  let read = 0;
  let start = "";
  try {
    while (read < bytes) {
      const { value, done } = await reader.read();
      if (done) break;
      read += value.length;
      if (start === "") start = new TextDecoder().decode(value.subarray(0, 1000));
    }
  } catch {
    // cut off
  } finally {
    await reader.cancel().catch(() => {});
  }
  return { status: response.status, read, start };
}

test("a listing of a directory that has no end, or is no listing", async () => {
  for (const path of ["list-forever", "list-short-names"])
    await watched(async () => {
      // It streams, as fast as it is read; what nobody reads stays in the guest.
      expect((await taste(`${path}&ls=true`, 20_000_000)).read).toBeGreaterThan(0);
      await taste(`${path}&ls=true`, 1);
    });
  for (const path of ["list-nested", "list-not-json"]) {
    const { status, start } = await watched(() => taste(`${path}&ls=true`, 1_000_000));
    expect({ path, status, start }).toMatchObject({ path, status: 500, start: REFUSED });
  }
}, 240_000);

test("a file that is longer than announced, or of no length that there is", async () => {
  await watched(async () => {
    const response = await fetch(`${installation.url}/sandboxes/evil/files?path=/read-endless`, {
      headers: { authorization: `Bearer ${installation.key("mallory")}` },
    });
    const reader = response.body!.getReader();
    expect((await reader.read()).value!.length).toBeGreaterThan(0);
    // What the client does not read is not taken from the guest.
    await Bun.sleep(3000);
    await reader.cancel().catch(() => {});
  });
  // It announced five bytes.
  expect((await watched(() => taste("read-forever", 1_000_000))).start).toEqual(REFUSED);
  for (const path of ["read-lies", "read-negative"]) {
    const answer = await attacker.call("GET", `/sandboxes/evil/files?path=/${path}`, undefined, {
      signal: AbortSignal.timeout(20_000),
    });
    expect(answer.status).not.toBe(0);
    expect(answer.headers.get("content-length")?.startsWith("-") ?? false).toBe(false);
  }
}, 120_000);

test("ports and activity that are nonsense neither fill an answer nor keep the machine for ever", async () => {
  const { body } = await watched(() => attacker.call("GET", "/sandboxes/evil/ports"));
  expect(Array.isArray(body) ? body.length : 0).toBeLessThanOrEqual(65_535);
  const view = await attacker.get("evil");
  expect(view.status).toBe("running");
  for (const value of Object.values(view))
    if (typeof value === "number") expect(Number.isFinite(value)).toBe(true);
}, 60_000);

test("many at once: the other tenant's machine answers in between", async () => {
  await watched(async () => {
    const tricks = ["output-forever", "list-forever", "beats-forever", "frame-half", "read-forever"];
    const attacks = Array.from({ length: 20 }, (_, i) => {
      const trick = tricks[i % tricks.length]!;
      if (!trick.startsWith("list") && !trick.startsWith("read")) return exec(trick, 10_000);
      return taste(trick.startsWith("list") ? `${trick}&ls=true` : trick, 10_000_000, 10_000).catch(
        () => null,
      );
    });
    for (let i = 0; i < 5; i++) expect(await neighbour.sh("good", `echo ${i}`)).toBe(String(i));
    await Promise.all(attacks);
  });
}, 120_000);

test("it learned nothing of others, and ends when its owner says so", async () => {
  const log = installation.log();
  expect(log).not.toContain("<script>");
  expect(log.length).toBeLessThan(3_000_000);
  // Its answers to prepare_clone, sync and power-off are lies: a copy of it is its owner's own trouble, and no one else's.
  const copy = await attacker.call(
    "POST",
    "/sandboxes/evil/checkpoint",
    { name: "evil" },
    {
      signal: AbortSignal.timeout(90_000),
    },
  );
  expect(copy.status).toBeGreaterThan(0);
  const began = performance.now();
  await attacker.call("DELETE", "/sandboxes/evil");
  expect(performance.now() - began).toBeLessThan(60_000);
  expect((await attacker.call("GET", "/sandboxes/evil")).status).toBe(404);
  expect(await neighbour.sh("good", "echo alive")).toBe("alive");
}, 180_000);
