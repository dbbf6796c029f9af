import { expect, test } from "bun:test";
import { FakeDaemon } from "../cli/fake-daemon.ts";
import { Client } from "./client.ts";
import { ApiError, TransportError } from "./error.ts";
import { path } from "./http.ts";
import { ndjson } from "./ndjson.ts";

const stream = (...chunks: string[]) =>
  new ReadableStream<Uint8Array>({
    start(out) {
      for (const chunk of chunks) out.enqueue(new TextEncoder().encode(chunk));
      out.close();
    },
  });

test("NDJSON: lines over chunk borders, blank lines, a last line without its end", async () => {
  const found = await Array.fromAsync(ndjson(stream('{"a":1}\n{"b"', ':"ü', '"}\n\n\r\n{"c":3}')));
  expect(found).toEqual([{ a: 1 }, { b: "ü" }, { c: 3 }]);
});

test("NDJSON: what is not an object, or too long, is refused", async () => {
  for (const bad of ["[1]\n", "nope\n", "1\n", "null\n"])
    expect(Array.fromAsync(ndjson(stream(bad)))).rejects.toThrow();
  expect(Array.fromAsync(ndjson(stream("x".repeat(50), "x".repeat(60)), 100))).rejects.toThrow("longer");
  expect(Array.fromAsync(ndjson(stream(`{"a":"${"x".repeat(100)}"}\n`), 100))).rejects.toThrow("longer");
});

test("names become one path segment each", () => {
  expect(path`/sandboxes/${"a/b c"}/x`).toBe("/sandboxes/a%2Fb%20c/x");
  for (const bad of ["", ".", ".."]) expect(() => path`/sandboxes/${bad}`).toThrow(ApiError);
});

test("errors of the server are typed", async () => {
  await using daemon = new FakeDaemon(({ path }) =>
    path === "/sandboxes"
      ? Response.json(
          {
            error: "sandbox limit reached (5/5)",
            code: "limit_reached",
            remedy: "destroy one",
            request_id: "req_1",
          },
          { status: 429 },
        )
      : new Response("<html>bad gateway", { status: 502 }),
  );
  const client = new Client({ url: `${daemon.url}/` });
  const refused = await client.sandboxes.list().catch((e: unknown) => e);
  expect(refused).toBeInstanceOf(ApiError);
  expect(refused).toMatchObject({
    status: 429,
    code: "limit_reached",
    remedy: "destroy one",
    requestId: "req_1",
  });
  expect(await client.sandboxes.get("x").catch((e: unknown) => e)).toMatchObject({
    status: 502,
    code: "unavailable",
  });
  expect(daemon.seen.length).toBe(2);
});

test("the rate limiter's wish is granted, a quota is not retried", async () => {
  let calls = 0;
  await using daemon = new FakeDaemon(() =>
    ++calls < 3
      ? Response.json(
          { error: "slow down", code: "rate_limited" },
          { status: 429, headers: { "retry-after": "0" } },
        )
      : Response.json([]),
  );
  expect(await new Client({ url: daemon.url }).sandboxes.list()).toEqual([]);
  expect(calls).toBe(3);
});

test("no answer, a redirect and a page that is not JSON are transport errors", async () => {
  await using daemon = new FakeDaemon(({ path }) =>
    path === "/snapshots"
      ? new Response(null, { status: 302, headers: { location: "https://elsewhere.example/" } })
      : new Response("<html>"),
  );
  const client = new Client({ url: daemon.url });
  expect(await client.snapshots.list().catch((e: unknown) => e)).toBeInstanceOf(TransportError);
  expect(await client.sandboxes.list().catch((e: unknown) => e)).toBeInstanceOf(TransportError);
  const nobody = await new Client({ url: "http://127.0.0.1:1" }).sandboxes.list().catch((e: unknown) => e);
  expect(nobody).toMatchObject({ code: "unreachable" });
});

test("a server that never answers is left after the timeout", async () => {
  await using daemon = new FakeDaemon(() => new Promise<Response>(() => {}));
  const error = await new Client({ url: daemon.url }).admin.me(100).catch((e: unknown) => e);
  expect(error).toMatchObject({ code: "timeout" });
});

test("waiting for the server's limits is told after two seconds, and Ctrl-C ends it", async () => {
  await using daemon = new FakeDaemon(() =>
    Response.json(
      { error: "512 requests of yours run already", code: "rate_limited" },
      { status: 429, headers: { "retry-after": "1" } },
    ),
  );
  const told: [string, number][] = [];
  const began = performance.now();
  const leave = new AbortController();
  const client = new Client({
    url: daemon.url,
    signal: leave.signal,
    onWait: (error) => {
      told.push([error.message, performance.now() - began]);
      leave.abort(new Error("left"));
    },
  });
  expect(client.sandboxes.list()).rejects.toThrow("left");
  await client.sandboxes.list().catch(() => {});
  expect(told[0]?.[0]).toBe("512 requests of yours run already");
  expect(told[0]![1]).toBeGreaterThan(1900);
  expect(daemon.seen.length).toBeGreaterThanOrEqual(2);
}, 20_000);

const busyUntil = (call: number, told: string[]) => {
  let calls = 0;
  return ({ body }: { body: string }) => {
    told.push(body);
    return ++calls < call
      ? Response.json(
          { error: "wait", code: "rate_limited" },
          { status: 429, headers: { "retry-after": "0" } },
        )
      : Response.json({});
  };
};

test("a body that is a stream is not sent twice, and the refusal says what helps", async () => {
  const told: string[] = [];
  await using daemon = new FakeDaemon(busyUntil(9, told));
  const error = await new Client({ url: daemon.url }).files
    .write("s", "/a", stream("x"))
    .catch((e: unknown) => e);
  expect(error).toMatchObject({
    code: "rate_limited",
    remedy: expect.stringContaining("or name a regular file"),
  });
  expect(told).toEqual(["x"]);
});

test("a body that can be made anew is sent until it is taken", async () => {
  const told: string[] = [];
  await using daemon = new FakeDaemon(busyUntil(3, told));
  await new Client({ url: daemon.url }).files.write("s", "/a", () => stream("x", "y"), { size: 2 });
  expect(told).toEqual(["xy", "xy", "xy"]);
});

test("a server that refuses before it has read a large body: the refusal is heard, and the body sent again", async () => {
  let calls = 0;
  let got = 0;
  using server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      if (++calls < 3)
        return Response.json(
          { error: "wait", code: "rate_limited" },
          { status: 429, headers: { "retry-after": "0" } },
        );
      for await (const chunk of request.body as unknown as AsyncIterable<Uint8Array>) got += chunk.length;
      return Response.json({});
    },
  });
  const size = 64 << 20;
  const body = () => new Blob([new Uint8Array(size)]).stream();
  await new Client({ url: `http://127.0.0.1:${server.port}` }).files.write("s", "/a", body, { size });
  expect([calls, got]).toEqual([3, size]);
});
