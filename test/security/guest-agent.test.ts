/**
 * Attacker: what answers in the agent's place (hostile-agent/, on this machine instead of in a guest: no VM is needed). What
 * guest-root.test.ts shows of the daemon as a whole is shown here of the host's side of the protocol, in this very process.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createGuestClient } from "../../src/guest/client.ts";
import { type Guest, GuestError } from "../../src/guest/guest.ts";
import { buildProgram } from "./build-program.ts";

const MAX_GROWTH_MB = 150;
const MAX_DEAF_MS = 1000;

let agent: Bun.Subprocess<"ignore", "pipe", "inherit">;
let guest: Guest;

beforeAll(async () => {
  agent = Bun.spawn([await buildProgram("hostile-agent"), "token", "127.0.0.1:0"], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const { value } = await agent.stdout.getReader().read();
  const port = Number(Buffer.from(value!).toString().trim().split(":").at(-1));
  guest = createGuestClient({ host: "127.0.0.1", port, token: "token" });
}, 120_000);
afterAll(() => agent?.kill("SIGKILL"));

/** Runs an attack for at most `ms`; memory and the thread of this process are watched. */
async function watched(attack: (signal: AbortSignal) => Promise<unknown>, ms = 6000): Promise<unknown> {
  Bun.gc(true);
  const before = process.memoryUsage.rss();
  let peak = before;
  let deaf = 0;
  let last = performance.now();
  const watch = setInterval(() => {
    const now = performance.now();
    deaf = Math.max(deaf, now - last);
    last = now;
    peak = Math.max(peak, process.memoryUsage.rss());
  }, 10);
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(new Error("enough")), ms);
  try {
    return await attack(end.signal).catch((error: unknown) => error);
  } finally {
    clearTimeout(timer);
    clearInterval(watch);
    const growth = Math.round((peak - before) / 1048576);
    expect({ growth, ok: growth < MAX_GROWTH_MB }).toMatchObject({ ok: true });
    expect({ deaf: Math.round(deaf), ok: deaf < MAX_DEAF_MS }).toMatchObject({ ok: true });
  }
}

const run = (trick: string, signal?: AbortSignal) =>
  guest.exec(
    { argv: [trick], uid: 1000, timeoutMs: 3000 },
    { stdout: async () => {}, stderr: async () => {} },
    signal,
  );

test("the twin: an answer that is in order arrives, and so the token is known there", async () => {
  let text = "";
  const sink = {
    stdout: async (bytes: Uint8Array) => {
      text += Buffer.from(bytes).toString();
    },
    stderr: async () => {},
  };
  expect(await guest.exec({ argv: ["who"], uid: 1000 }, sink)).toMatchObject({ exitCode: 0 });
  expect(text).toBe("hostile\n");
});

test("answers that break the protocol are errors of the guest", async () => {
  for (const trick of [
    "frame-huge",
    "frame-empty",
    "frame-unknown",
    "result-garbage",
    "result-array",
    "result-wrong",
    "error-huge",
    "error-ours",
    "hang-up",
  ]) {
    const error = await watched((signal) => run(trick, signal));
    expect({ trick, guest: error instanceof GuestError }).toEqual({ trick, guest: true });
    expect((error as Error).message.length).toBeLessThan(5000);
  }
  // The next request has a connection of its own.
  expect(await run("who")).toMatchObject({ exitCode: 0 });
}, 60_000);

test("what has no end is bounded and ends with its reader", async () => {
  for (const trick of [
    "output-forever",
    "empty-forever",
    "started-forever",
    "beats-forever",
    "beats-slowly",
  ]) {
    const error = await watched((signal) => run(trick, signal), 3000);
    expect({ trick, ended: error instanceof Error }).toEqual({ trick, ended: true });
  }
  const file = await guest.readFile("/read-forever", {});
  await watched(async () => {
    const reader = file.body.getReader();
    await reader.read();
    await Bun.sleep(2000);
    await reader.cancel();
  });
}, 60_000);

test("a listing without end is read as fast as its reader reads", async () => {
  for (const path of ["/list-forever", "/list-short-names"])
    await watched(async () => {
      let entries = 0;
      for await (const batch of await guest.list(path)) {
        entries += batch.length;
        await Bun.sleep(20);
        if (entries > 20_000) break;
      }
      expect(entries).toBeGreaterThan(20_000);
    });
  for (const path of ["/list-nested", "/list-not-json"]) {
    const error = await watched(async () => {
      for await (const _ of await guest.list(path)) throw new Error("was a listing");
    });
    expect({ path, guest: error instanceof GuestError }).toEqual({ path, guest: true });
  }
}, 60_000);
