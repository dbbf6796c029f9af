/** Attacker: somebody who reaches the API's port, without a key or with one that is worth little. No VM is needed. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { Installation } from "../e2e/harness.ts";

let installation: Installation;
let address: { host: string; port: number };
let key: string;

beforeAll(async () => {
  installation = await Installation.create();
  const { hostname, port } = new URL(installation.url);
  address = { host: hostname, port: Number(port) };
  installation.user("mallory", { maxSandboxes: 1 });
  key = installation.key("mallory");
}, 300_000);
afterAll(async () => {
  await installation?.remove();
}, 120_000);

const status = () => readFileSync(`/proc/${installation.pid}/status`, "latin1");
const rssMb = () => Number(status().match(/^VmRSS:\s+(\d+)/m)![1]) / 1024;

async function alive(): Promise<void> {
  const asked = performance.now();
  const { status: code } = await fetch(`${installation.url}/health`);
  expect(code).toBe(200);
  expect(performance.now() - asked).toBeLessThan(2000);
}

/** Sends bytes as they are and reads what comes back until the end, or `ms`. */
function raw(bytes: string | Uint8Array, ms = 3000): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(address, () => socket.write(bytes));
    const end = () => {
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(end, ms);
    socket.on("data", (data) => {
      answer += data.toString("latin1");
    });
    socket.on("close", () => {
      clearTimeout(timer);
      end();
    });
    socket.on("error", () => {});
  });
}

const firstLine = (answer: string) => answer.split("\r\n")[0] ?? "";
const answers = (answer: string) => answer.match(/^HTTP\/1\.1 \d+/gm) ?? [];

test("without a key nothing but health and the document is served, and nothing is told", async () => {
  const { paths } = (await (await fetch(`${installation.url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, unknown>>;
  };
  for (const [path, methods] of Object.entries(paths))
    for (const method of Object.keys(methods)) {
      if (path === "/health") continue;
      const target = path.replace(/\{\w+\}/g, "x");
      for (const headers of [
        {},
        { authorization: "Bearer" },
        { authorization: "Basic eDp4" },
        { authorization: "Bearer two words" },
      ]) {
        const answer = await fetch(installation.url + target, {
          method: method.toUpperCase(),
          headers: headers as Record<string, string>,
        });
        expect({ path, method, status: answer.status }).toEqual({ path, method, status: 401 });
        expect(await answer.text()).not.toMatch(/sandbox "|usr_|\/var\//);
      }
    }
}, 60_000);

test("guessing keys is slowed down, and a right key works meanwhile", async () => {
  const codes: number[] = [];
  for (let i = 0; i < 40; i++) {
    const guess = { authorization: `Bearer bht_${String(i).padStart(64, "0")}` };
    codes.push((await fetch(`${installation.url}/me`, { headers: guess })).status);
  }
  expect(codes.slice(0, 5)).toEqual([401, 401, 401, 401, 401]);
  expect(codes.filter((code) => code === 429).length).toBeGreaterThan(20);
  // Nobody else is locked out by them (they come from the same address here).
  expect(
    (await fetch(`${installation.url}/me`, { headers: { authorization: `Bearer ${key}` } })).status,
  ).toBe(200);
}, 30_000);

test("headers: floods, sizes and nonsense are cut off without memory", async () => {
  const before = rssMb();
  const big = `GET /health HTTP/1.1\r\nhost: x\r\nx-big: ${"a".repeat(2_000_000)}\r\n\r\n`;
  expect(firstLine(await raw(big))).toMatch(/ 4\d\d|^$/);
  const many = `GET /health HTTP/1.1\r\nhost: x\r\n${Array.from({ length: 20_000 }, (_, i) => `x-${i}: ${i}\r\n`).join("")}\r\n`;
  expect(firstLine(await raw(many))).toMatch(/ 4\d\d|^$/);
  const target = `GET /${"a".repeat(1_000_000)} HTTP/1.1\r\nhost: x\r\n\r\n`;
  expect(firstLine(await raw(target))).toMatch(/ 4\d\d|^$/);
  for (const nonsense of [
    "\x00\x01\x02\x03",
    "GET\r\n\r\n",
    "GET / HTTP/9.9\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  ])
    expect(firstLine(await raw(nonsense, 1000))).not.toMatch(/ 2\d\d/);
  await alive();
  expect(rssMb() - before).toBeLessThan(100);
}, 60_000);

test("slow and silent connections hold a socket each and nothing more", async () => {
  const sockets: Socket[] = [];
  const before = rssMb();
  try {
    for (let i = 0; i < 500; i++) {
      const socket = connect(address, () =>
        socket.write("POST /sandboxes HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\nx-drip:"),
      );
      socket.on("error", () => {});
      sockets.push(socket);
    }
    await Bun.sleep(500);
    for (const socket of sockets) socket.write("a");
    await alive();
    expect(
      (await fetch(`${installation.url}/me`, { headers: { authorization: `Bearer ${key}` } })).status,
    ).toBe(200);
    expect(rssMb() - before).toBeLessThan(100);
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}, 60_000);

test("bodies: too large, too deep, not JSON, with names that objects mind", async () => {
  const before = rssMb();
  const post = (body: string | Blob | Uint8Array<ArrayBuffer>, path = "/sandboxes") =>
    fetch(installation.url + path, { method: "POST", body, headers: { authorization: `Bearer ${key}` } });
  for (const body of [
    "[".repeat(900_000),
    `{"name":${"[".repeat(400_000)}${"]".repeat(400_000)}}`,
    `{"env":{${Array.from({ length: 50_000 }, (_, i) => `"K${i}":"v"`).join(",")}},"memory_mb":1}`,
    '{"__proto__":{"admin":true},"memory_mb":1}',
    '{"constructor":{"prototype":{"admin":true}},"memory_mb":1}',
    "\u0000",
    "null",
    '"text"',
    '{"memory_mb":1e999}',
    '{"memory_mb":-1}',
  ]) {
    const { status: code } = await post(body);
    expect({ body: body.slice(0, 40), refused: code >= 400 && code < 500 }).toMatchObject({ refused: true });
  }
  expect((await post(Buffer.alloc(64 << 20, 32))).status).toBe(413);
  // A stream without an end, without a key and with one: cut, not collected.
  for (const authorization of ["", `Bearer ${key}`]) {
    let sent = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 1 << 20;
        if (sent > 1 << 30) controller.close();
        else controller.enqueue(new Uint8Array(1 << 20).fill(32));
      },
    });
    const answer = await fetch(`${installation.url}/sandboxes`, {
      method: "POST",
      body,
      headers: authorization ? { authorization } : {},
      signal: AbortSignal.timeout(20_000),
    }).catch(() => null);
    if (answer) expect([401, 413]).toContain(answer.status);
  }
  await alive();
  expect(rssMb() - before).toBeLessThan(250);
  expect(
    (
      (await (
        await fetch(`${installation.url}/me`, { headers: { authorization: `Bearer ${key}` } })
      ).json()) as { admin?: boolean }
    ).admin ?? false,
  ).toBe(false);
}, 120_000);

test("smuggling: one request is one request, also in front of a proxy", async () => {
  const auth = `authorization: Bearer ${key}\r\n`;
  const inner = `GET /me HTTP/1.1\r\nhost: x\r\n${auth}\r\n`;
  const ambiguous: Record<string, string> = {
    "both lengths": `POST /sandboxes HTTP/1.1\r\nhost: x\r\n${auth}content-length: ${inner.length + 5}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${inner}`,
    "two lengths": `POST /sandboxes HTTP/1.1\r\nhost: x\r\n${auth}content-length: 0\r\ncontent-length: ${inner.length}\r\n\r\n${inner}`,
    "a length that is none": `POST /sandboxes HTTP/1.1\r\nhost: x\r\n${auth}content-length: +0\r\n\r\n${inner}`,
    "an encoding twice": `POST /sandboxes HTTP/1.1\r\nhost: x\r\n${auth}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n${inner}`,
    "a space before the colon": `POST /sandboxes HTTP/1.1\r\nhost: x\r\n${auth}content-length : ${inner.length}\r\n\r\n${inner}`,
    "a line folded": `POST /sandboxes HTTP/1.1\r\nhost: x\r\n${auth}x: y\r\n transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n`,
    "a bare line feed": `POST /sandboxes HTTP/1.1\r\nhost: x\n${auth}content-length: 0\r\n\r\n`,
    "chunk size overflow": `POST /sandboxes HTTP/1.1\r\nhost: x\r\n${auth}transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n${inner}`,
  };
  for (const [what, bytes] of Object.entries(ambiguous)) {
    const answer = await raw(bytes, 1500);
    // The inner request, which an honest reading hides in the first one's body, is never answered with 200.
    expect({ what, smuggled: answers(answer).some((line) => line.endsWith(" 200")) }).toEqual({
      what,
      smuggled: false,
    });
  }
  // The twin: two honest requests on one connection are both answered.
  const two = await raw(`GET /health HTTP/1.1\r\nhost: x\r\n\r\n${inner}`, 1500);
  expect(answers(two)).toEqual(["HTTP/1.1 200", "HTTP/1.1 200"]);
  await alive();
}, 60_000);

test("WebSockets: without a key, with nonsense, or in great numbers", async () => {
  const upgrade = (headers: string, path = "/sandboxes/x/exec/stream") =>
    `GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n${headers}\r\n`;
  expect(firstLine(await raw(upgrade(""), 1000))).toContain(" 401");
  expect(firstLine(await raw(upgrade(`authorization: Bearer ${key}\r\n`), 1000))).toContain(" 404");
  // A browser's page cannot add the key: it is taken from no cookie, query or sub-protocol.
  for (const header of [`cookie: token=${key}\r\n`, `sec-websocket-protocol: ${key}\r\n`])
    expect(firstLine(await raw(upgrade(header), 1000))).toContain(" 401");
  expect(firstLine(await raw(upgrade("", `/sandboxes/x/exec/stream?token=${key}`), 1000))).toContain(" 401");
  expect(firstLine(await raw(upgrade("", "/health"), 1000))).not.toContain(" 101");
  const flood = await Promise.all(Array.from({ length: 300 }, () => raw(upgrade(""), 4000)));
  expect(flood.filter((answer) => answer.includes(" 101"))).toEqual([]);
  await alive();
}, 60_000);

test("none of it is answered with an internal error, logged with a key, or kept", async () => {
  const log = installation.log();
  expect(log).not.toContain(key);
  expect(log).not.toContain('"code":"internal"');
  expect(log).not.toContain("request failed");
  expect(status()).toContain("State:");
}, 10_000);
