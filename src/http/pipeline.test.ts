/** The pipeline over real connections: keys, shares of owners, what a 429 says. */
import { afterAll, beforeEach, expect, test } from "bun:test";
import { connect } from "node:net";
import { Hono } from "hono";
import { AppError } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import type { HttpEnv } from "./env.ts";
import { reply } from "./json.ts";
import { type Listener, listen } from "./listen.ts";
import { withProgress } from "./progress.ts";
import { createApp } from "./server.ts";
import { Shares } from "./shares.ts";

const limits = {
  atOnce: { api: 3, traffic: 2, public: 2 },
  bytes: 60 << 20,
  rate: { burst: 20, perSecond: 10 },
};
/** More than the buffers of a connection take. */
const LARGE = 24 << 20;
let shares: Shares;
let left = false;
let failures: string[];
let gate: PromiseWithResolvers<void>;
let server: Listener | null = null;
let statuses: number[];

async function begin(rateFactor = 0): Promise<void> {
  await server?.stop(0);
  shares = new Shares(limits, rateFactor);
  failures = [];
  statuses = [];
  gate = Promise.withResolvers<void>();
  const routes = new Hono<HttpEnv<{ id: string }>>();
  routes.get("/quick", (c) => reply(c, {}));
  routes.get("/large", (c) => reply(c, { x: "y".repeat(LARGE) }));
  routes.put("/upload", async (c) => {
    for await (const _ of c.req.raw.body!);
    return reply(c, {});
  });
  routes.get("/slow", async (c) => {
    await gate.promise;
    return reply(c, {});
  });
  const stream = () =>
    new Response(
      new ReadableStream({
        async start(controller) {
          controller.enqueue(new TextEncoder().encode("first"));
          await gate.promise;
          controller.close();
        },
      }),
      { headers: { "content-type": "application/json" } },
    );
  routes.get("/stream", stream);
  routes.get("/proxied/*", stream);
  routes.post("/work/:how", (c) =>
    withProgress(c, async (told, signal) => {
      if (c.req.param("how") === "refused") throw new AppError("conflict", "not now");
      if (c.req.param("how") === "quick") return "done";
      told(1, 2);
      signal.addEventListener("abort", () => gate.resolve());
      await gate.promise;
      if (signal.aborted) left = true;
      if (c.req.param("how") === "failing")
        throw new AppError("disk_full", "no room", { remedy: "make some" });
      if (c.req.param("how") === "broken") throw new Error("secret");
      return "done";
    }),
  );
  routes.get("/socket", (c) => {
    const keep = c.get("place").keep();
    if (!c.env.server.upgrade(c.req.raw, { data: keep as never })) throw new Error("no handshake");
    return new Response(null, { status: 101 });
  });
  const app = createApp({
    version: "1",
    log: createLog("silent"),
    authenticate: (key) => (key.startsWith("key-") ? { id: key.slice(4) } : null),
    routes: [routes],
    operations: [],
    translate: () => null,
    shares,
    kindOf: (path) => (path.startsWith("/proxied/") ? "traffic" : "api"),
    onRequest: (_method, status) => statuses.push(status),
    onAuthFailure: (address) => failures.push(address),
  });
  server = listen<{ id: string }, () => void>(app, "127.0.0.1:0", {
    message() {},
    close: (socket) => socket.data(),
  });
}

beforeEach(() => begin());
afterAll(() => server?.stop(0));

const get = (path: string, key = "key-a", init: RequestInit = {}) =>
  fetch(server!.url + path, { headers: { authorization: `Bearer ${key}` }, ...init });
const until = async (done: () => Promise<boolean> | boolean) => {
  for (let i = 0; i < 200; i++) {
    if (await done()) return true;
    await Bun.sleep(10);
  }
  return false;
};

test("what one owner does at once is bounded; the refusal says when to come again; others go on", async () => {
  const running = [get("/slow"), get("/slow"), get("/slow")];
  let refused = await get("/quick");
  for (let i = 0; i < 200 && refused.status !== 429; i++) refused = await get("/quick");
  expect(refused.status).toBe(429);
  expect(refused.headers.get("retry-after")).toBe("1");
  expect(await refused.json()).toMatchObject({
    code: "rate_limited",
    error: "3 requests of yours run already",
  });
  expect((await get("/quick", "key-b")).status).toBe(200);
  gate.resolve();
  for (const one of running) expect((await one).status).toBe(200);
  expect((await get("/quick")).status).toBe(200);
});

test("a client that leaves in the middle of an upload is no fault of the server", async () => {
  const { hostname, port } = new URL(server!.url);
  const head =
    "PUT /upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-a\r\nContent-Length: 10\r\n\r\nfive.";
  const raw = connect(Number(port), hostname, () => raw.write(head));
  await Bun.sleep(200);
  raw.destroy();
  expect(await until(() => statuses.length > 0)).toBe(true);
  expect(statuses).toEqual([499]);
});

test("a stream holds its place until its end, or until its reader leaves", async () => {
  const leave = new AbortController();
  const open = await Promise.all([1, 2, 3].map(() => get("/stream", "key-a", { signal: leave.signal })));
  expect(open.map((r) => r.status)).toEqual([200, 200, 200]);
  expect((await get("/quick")).status).toBe(429);
  leave.abort();
  expect(await until(async () => (await get("/quick")).status === 200)).toBe(true);
  const again = await get("/stream");
  gate.resolve();
  expect(await again.text()).toBe("first");
  expect(
    await until(async () => (await Promise.all([1, 2, 3].map(() => get("/quick")))).every((r) => r.ok)),
  ).toBe(true);
});

test("traffic through the proxy is not API traffic: places of its own, no rate", async () => {
  await begin(1);
  gate.resolve();
  const statuses: number[] = [];
  for (let i = 0; i < 60; i++) {
    const answer = await get("/proxied/asset");
    statuses.push(answer.status);
    await answer.text();
  }
  expect(statuses.every((status) => status === 200)).toBe(true);
  // The same loop over the API meets the rate: what holds the proxied ones back is gone, not the limiter.
  let limited: Response | null = null;
  for (let i = 0; i < 60 && !limited; i++) {
    const answer = await get("/quick");
    if (answer.status === 429) limited = answer;
  }
  expect(limited?.headers.get("retry-after")).toBe("1");
});

test("JSON that an app in a sandbox streams holds its place too", async () => {
  await Promise.all([get("/proxied/a"), get("/proxied/b")]);
  const refused = await get("/proxied/c");
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
  expect((await get("/quick")).status).toBe(200);
});

test("sockets count until they close; a refused upgrade carries Retry-After", async () => {
  const socket = () =>
    new WebSocket(`${server!.url.replace("http", "ws")}/socket`, {
      headers: { authorization: "Bearer key-a" },
    });
  const open = [socket(), socket(), socket()];
  await Promise.all(open.map((one) => new Promise((resolve) => (one.onopen = resolve))));
  const head = await upgrade("/socket");
  expect(head).toStartWith("HTTP/1.1 429");
  expect(head.toLowerCase()).toContain("\r\nretry-after: 1\r\n");
  for (const one of open) one.close();
  expect(await until(async () => (await get("/quick")).status === 200)).toBe(true);
  expect(await upgrade("/socket")).toStartWith("HTTP/1.1 101");
});

/** Head of the answer to a WebSocket handshake. */
function upgrade(path: string): Promise<string> {
  return new Promise((resolve) => {
    const { port } = new URL(server!.url);
    const raw = connect(Number(port), "127.0.0.1", () =>
      raw.write(
        `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nAuthorization: Bearer key-a\r\n\r\n`,
      ),
    );
    raw.on("data", (bytes) => {
      resolve(bytes.toString());
      raw.destroy();
    });
  });
}

test("keys: any case of the scheme, exactly one word; a flood of wrong ones is refused before it is noted", async () => {
  const status = async (authorization: string) =>
    (await fetch(`${server!.url}/quick`, { headers: { authorization } })).status;
  expect(await status("bearer key-a")).toBe(200);
  expect(await status("BEARER key-a")).toBe(200);
  for (const wrong of ["", "Bearer ", "Basic key-a", "Bearer key-a key-a", "key-a"])
    expect(await status(wrong)).toBe(401);
  expect(failures).toEqual([]);
  const answers = await Promise.all(Array.from({ length: 50 }, () => get("/quick", "wrong")));
  const limited = answers.filter((answer) => answer.status === 429);
  expect(limited.length).toBeGreaterThanOrEqual(38);
  expect(limited.every((answer) => Number(answer.headers.get("retry-after")) >= 1)).toBe(true);
  expect(failures.length).toBe(50 - limited.length);
  // The right key from the same address is not held back.
  expect((await get("/quick")).status).toBe(200);
});

test("an unknown route says which; HEAD and other methods too", async () => {
  const answer = await get("/nowhere");
  expect([answer.status, await answer.json()]).toEqual([
    404,
    { error: "there is no GET /nowhere here", code: "not_found", remedy: "see /openapi.json" },
  ]);
});

test("bytes in memory are counted per owner and given back with the request", () => {
  const shares = new Shares({ ...limits, bytes: 1000 }, 0);
  const place = shares.enter("a", "api");
  const other = shares.enter("a", "api");
  expect([place.take(600), other.take(600), shares.enter("b", "api").take(600)]).toEqual([true, false, true]);
  place.give(300);
  expect(other.take(600)).toBe(true);
  place.release();
  place.release();
  expect(shares.enter("a", "api").take(400)).toBe(true);
  expect(place.take(1)).toBe(false);
});

test("owners with nothing in the daemon are forgotten", () => {
  for (let i = 0; i < 5000; i++) shares.enter(`u${i}`, "api").release();
  expect(shares.size()).toBeLessThanOrEqual(1001);
});

test("long work: what is refused at once has its status; then lines of progress, the result or the error last", async () => {
  const post = (how: string) =>
    get(`/work/${how}`, "key-a", { method: "POST", headers: { authorization: "Bearer key-a" } });
  const refused = await post("refused");
  expect([refused.status, await refused.json()]).toMatchObject([409, { error: "not now" }]);
  const lines = async (response: Response) => {
    expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/x-ndjson"]);
    return (await response.text())
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
  };
  expect((await lines(await post("quick"))).at(-1)).toEqual({ result: "done" });
  for (const [how, last] of [
    ["slow", { result: "done" }],
    ["failing", { error: "no room", code: "disk_full", remedy: "make some" }],
    ["broken", { error: "internal error", code: "internal" }],
  ] as const) {
    gate = Promise.withResolvers();
    const answer = await post(how);
    gate.resolve();
    const told = await lines(answer);
    expect(told[0]).toEqual({ read: 1, of: 2 });
    expect(told.at(-1)).toMatchObject(last);
  }
  gate = Promise.withResolvers();
  await (await post("slow")).body!.cancel();
  expect(await until(() => left)).toBe(true);
});

test("an answer that its client does not read is counted; the one too many is refused, and read ones are given back", async () => {
  const { port } = new URL(server!.url);
  const unread = Array.from({ length: 2 }, () => {
    const socket = connect(Number(port), "127.0.0.1");
    socket.pause();
    socket.write("GET /large HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-a\r\n\r\n");
    return socket;
  });
  const large = (key: string) =>
    fetch(`${server!.url}/large`, { headers: { authorization: `Bearer ${key}` } });
  while (statuses.length < unread.length) await Bun.sleep(10);
  expect(statuses).toEqual([200, 200]);
  const refused = await large("key-a");
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
  expect(await refused.text()).toContain("have not read");
  // Another owner has a share of its own; and so has this one when its clients are gone.
  expect((await (await large("key-b")).text()).length).toBeGreaterThan(LARGE);
  for (const socket of unread) socket.destroy();
  let again = await large("key-a");
  for (let i = 0; i < 100 && again.status !== 200; i++) {
    await Bun.sleep(20);
    again = await large("key-a");
  }
  expect((await again.text()).length).toBeGreaterThan(LARGE);
}, 30_000);
