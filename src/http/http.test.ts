import { describe, expect, test } from "bun:test";
import { z } from "zod";
import { operations } from "../daemon/operations.ts";
import { AppError } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { decode, encode } from "./json.ts";
import { openApiDocument } from "./openapi.ts";
import { classOf, RateLimiter, UserLimits } from "./rate-limit.ts";
import { goDuration, respond } from "./server.ts";

const schema = z.object({ name: z.string().optional(), count: z.int().optional() });
const context = (body: string | null) =>
  ({ req: { raw: new Request("http://x/", { method: "POST", body }) } }) as unknown as Parameters<
    typeof decode
  >[0];

describe("JSON", () => {
  test.each([
    ['{"name":"a"}', { name: "a" }],
    ['{"NAME":"a"}', { name: "a" }],
    ['{"Name":"x","name":"a"}', { name: "a" }],
    ['{"name":null,"other":1}', {}],
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
    ['{"name":7}', "invalid json: name"],
    ['{"count":1.5}', "invalid json: count"],
    [`{"name":"${"x".repeat(1_100_000)}"}`, "invalid json: http: request body too large"],
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
    expect(await unknown.json()).toEqual({ error: "internal error", code: "internal", request_id: "req_2" });
  });
});

describe("limits", () => {
  test("bursts, refill, and forgetting the oldest", () => {
    let now = 0;
    const limiter = new RateLimiter({ burst: 2, perSecond: 1 }, () => now);
    expect([limiter.take("a"), limiter.take("a")]).toEqual([0, 0]);
    expect(limiter.take("a")).toBeGreaterThan(0);
    expect(limiter.take("b")).toBe(0);
    now = 1500;
    expect(limiter.take("a")).toBe(0);
  });

  test("the eleventh rapid create of one user is refused, another user's is not", () => {
    const limits = new UserLimits();
    for (let i = 0; i < 10; i++) limits.check("u", "POST", "/sandboxes");
    expect(() => limits.check("u", "POST", "/sandboxes")).toThrow("rate limit exceeded");
    limits.check("v", "POST", "/sandboxes");
  });

  test.each([
    ["POST", "/sandboxes", "create"],
    ["POST", "/sandboxes/exec", "read"],
    ["POST", "/sandboxes/x/exec", "exec"],
    ["PUT", "/sandboxes/x/files", "exec"],
    ["GET", "/sandboxes/x/files", "read"],
    ["GET", "/sandboxes/ws1", "read"],
    ["GET", "/sandboxes/x/exec/stream", "exec"],
    ["DELETE", "/sandboxes/x", "read"],
  ] as const)("%s %s is %s", (method, path, name) => {
    expect(classOf(method, path)).toBe(name);
  });
});

test("durations as Go prints them", () => {
  expect([0, 45_000, 182_000, 93_601_000].map(goDuration)).toEqual(["0s", "45s", "3m2s", "26h0m1s"]);
});

test("the OpenAPI document names every route once and validates as JSON", () => {
  const document = JSON.parse(JSON.stringify(openApiDocument("1", operations))) as {
    paths: Record<string, object>;
  };
  expect(Object.keys(document.paths)).toContain("/sandboxes/{sandbox}/exec");
  expect(Object.keys(document.paths).length).toBeGreaterThan(20);
});
