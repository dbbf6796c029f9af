import { describe, expect, test } from "bun:test";
import { z } from "zod";
import { AppError } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { decode } from "./decode.ts";
import { orEmpty, whole } from "./fields.ts";
import { encode } from "./json.ts";
import { RateLimiter } from "./rate-limit.ts";
import { goDuration, respond } from "./server.ts";

const schema = z.strictObject({
  name: z.string("must be text").optional(),
  count: orEmpty(whole(1, 5), 0),
});
const context = (body: string | null) =>
  ({ req: { raw: new Request("http://x/", { method: "POST", body }) } }) as unknown as Parameters<
    typeof decode
  >[0];

describe("JSON", () => {
  test.each([
    ['{"name":"a"}', { name: "a" }],
    ['{"NAME":"a"}', { name: "a" }],
    ['{"Name":"x","name":"a"}', { name: "a" }],
    ['{"name":null,"count":0}', {}],
    ['{"name":"a"} trailing', { name: "a" }],
    ['{"name":"}{"}{"name":"b"}', { name: "}{" }],
  ])("%s is accepted as existing clients send it", async (body, value) => {
    expect(await decode(context(body), schema)).toEqual(value);
  });

  test.each([
    [null, "invalid json: EOF"],
    ["", "invalid json: EOF"],
    ["{", "invalid json"],
    ["[]", "invalid json: an object is expected"],
    ["null", "invalid json: an object is expected"],
    ['{"name":7}', "name must be text"],
    ['{"count":1.5}', "count must be a whole number from 1 to 5"],
    ['{"count":6}', "count must be a whole number from 1 to 5"],
    ['{"count":"1"}', "count must be a whole number from 1 to 5"],
    ['{"cuont":1}', 'unknown member "cuont"'],
    ['{"__proto__":{"name":"a"}}', 'unknown member "__proto__"'],
    [`{"name":"${"x".repeat(1_100_000)}"}`, "the JSON body is larger than 1048576 bytes"],
  ])("%p is refused", async (body, message) => {
    expect(decode(context(body), schema)).rejects.toThrow(message);
  });

  test("output escapes what HTML minds and ends in a newline", () => {
    expect(encode({ a: "<&>" })).toBe('{"a":"\\u003c\\u0026\\u003e"}\n');
  });
});

describe("errors", () => {
  test("ours are told with remedy and code, others only by their request id", async () => {
    const known = respond(
      new AppError("disk_full", "no space", { remedy: "make some", retryAfter: 3 }),
      "req_1",
      createLog("silent"),
    );
    expect(known.status).toBe(507);
    expect(known.headers.get("retry-after")).toBe("3");
    expect(await known.json()).toMatchObject({ error: "no space", code: "disk_full", remedy: "make some" });
    const unknown = respond(new Error("/var/lib/secret path"), "req_2", createLog("silent"));
    expect(unknown.status).toBe(500);
    expect(await unknown.json()).toEqual({
      error: "internal error",
      code: "internal",
      remedy: "the server's log has the cause under req_2",
      request_id: "req_2",
    });
  });
});

describe("limits", () => {
  test("bursts and refill", () => {
    let now = 0;
    const limiter = new RateLimiter({ burst: 2, perSecond: 1 }, () => now);
    expect([limiter.take("a"), limiter.take("a")]).toEqual([0, 0]);
    expect(limiter.take("a")).toBeGreaterThan(0);
    expect(limiter.take("b")).toBe(0);
    now = 1500;
    expect(limiter.take("a")).toBe(0);
  });

  test("the key that was longest unused is forgotten, and nobody else", () => {
    const limiter = new RateLimiter({ burst: 1, perSecond: 0.001 }, () => 0);
    expect([limiter.take("first"), limiter.take("used")]).toEqual([0, 0]);
    for (let i = 0; i < 9999; i++) {
      limiter.take(`k${i}`);
      limiter.take("used");
    }
    // Beyond ten thousand the bucket of "first" is gone: it may ask again. Those that were used since still may not.
    expect(limiter.take("first")).toBe(0);
    expect(limiter.take("used")).toBeGreaterThan(0);
    expect(limiter.take("k9998")).toBeGreaterThan(0);
  });
});

test("durations as Go prints them", () => {
  expect([0, 45_000, 182_000, 93_601_000].map(goDuration)).toEqual(["0s", "45s", "3m2s", "26h0m1s"]);
});
