/** Every route of the real API over HTTP, with the nouns' services stubbed: what is refused, with which words; what is documented. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { streamSockets } from "../exec/stream.ts";
import { type Listener, listen } from "../http/listen.ts";
import { openApiDocument } from "../http/openapi.ts";
import { createApp } from "../http/server.ts";
import { Shares } from "../http/shares.ts";
import { createLog } from "../lib/log.ts";
import type { User } from "../users/user.ts";
import { NOT_YET } from "./not-yet.ts";
import { operations } from "./operations.ts";
import { type RouteDeps, routes } from "./routes.ts";

let server: Listener;
/** Calls of services that got through: a refusal has none, its twin has one. */
let calls: [string, unknown][] = [];

const bytes = (text: string) => new Blob([text]).stream();
const guest = {
  exec: (request: unknown) => note("exec", request, Promise.resolve({ exitCode: 0, timedOut: false })),
  execDetached: (request: unknown) => note("detach", request, Promise.resolve({ pid: 7 })),
  readFile: (_path: string, range: unknown) =>
    note("read", range, Promise.resolve({ size: 1, mode: "0644", length: 1, body: bytes("x") })),
  list: (_path: string, options: unknown) =>
    note("list", options, Promise.resolve((async function* () {})())),
  stat: (path: string) =>
    note("stat", { path }, Promise.resolve({ size: 1, mode: "0644", isDir: false, mtime: 0 })),
  writeFile: (_path: string, _body: unknown, options: unknown) => note("write", options, Promise.resolve()),
};
function note<T>(name: string, input: unknown, result: T): T {
  calls.push([name, JSON.parse(JSON.stringify(input ?? {}))]);
  return result;
}

const service = (names: string[]) =>
  Object.fromEntries(
    names.map((name) => [name, (_user: unknown, ...rest: unknown[]) => note(name, rest, {})]),
  );

const deps = {
  sandboxes: {
    ...service(["get", "inspect", "list", "patch", "destroy", "stop", "start"]),
    create: (_user: unknown, input: unknown) =>
      note("create", input, Promise.resolve({ sandbox: {}, existing: false, differs: [], timings: {} })),
    lease: async () => ({
      guest,
      revoked: new AbortController().signal,
      secretEnv: async () => ({}),
      release() {},
    }),
  },
  snapshots: service([
    "create",
    "list",
    "get",
    "delete",
    "resume",
    "fork",
    "restore",
    "export",
    "import",
    "verify",
  ]),
  events: {
    events: { list: (filter: unknown) => note("events", filter, []) },
    sandboxId: () => undefined,
    userName: () => undefined,
  },
  status: {},
  secrets: {
    ...service(["set", "list"]),
    delete: () => note("delete", {}, Promise.resolve({ used_by: [] })),
  },
  countSandboxes: () => 0,
  countSecrets: () => 0,
  countSnapshots: () => 0,
} as unknown as RouteDeps;

const app = createApp<User>({
  version: "1",
  log: createLog("silent"),
  authenticate: (key) => (key === "k" ? ({ id: "u", admin: false } as User) : null),
  routes: routes(deps),
  operations,
  translate: () => null,
  shares: new Shares(),
  kindOf: () => "api",
  onRequest: () => {},
  onAuthFailure: () => {},
});

beforeAll(() => {
  server = listen(app, "127.0.0.1:0", streamSockets);
});
afterAll(() => server.stop(0));

async function ask(method: string, path: string, body?: unknown) {
  calls = [];
  const response = await fetch(server.url + path, {
    method,
    headers: { authorization: "Bearer k" },
    body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const json = text.startsWith("{") ? (JSON.parse(text) as Record<string, string>) : {};
  return {
    status: response.status,
    error: json.error,
    remedy: json.remedy,
    code: json.code,
    headers: response.headers,
  };
}

describe("documents every route", () => {
  const plain = (path: string) => path.replace(/:\w+(\{[^}]*\})?|\{\w+\}/g, "{}").replace(/\/\*$/, "/{}");
  const served = app.routes
    .filter(({ method, path }) => method !== "ALL" && path !== "/openapi.json")
    .map(({ method, path }) => `${method} ${plain(path)}`);
  const proxied = "GET /sandboxes/{}/proxy/{}/{}";
  const documented = operations.map(({ method, path }) => `${method.toUpperCase()} ${plain(path)}`);

  test("each served route has one operation, each operation is served", () => {
    expect(new Set(served).size).toBe(served.length);
    expect([...served, proxied].sort()).toEqual([...documented].sort());
  });

  test("a body or query that is checked is in the document", () => {
    const document = JSON.parse(JSON.stringify(openApiDocument("1", operations)));
    const { post } = document.paths["/sandboxes/{sandbox}/exec"];
    const exec = post.requestBody.content["application/json"].schema;
    expect([exec.required, exec.additionalProperties, exec.properties.timeout_sec]).toMatchObject([
      ["cmd"],
      false,
      { type: "integer", minimum: 1, maximum: 86400 },
    ]);
    const { get } = document.paths["/sandboxes/{sandbox}/files"];
    expect(get.parameters).toContainEqual(
      expect.objectContaining({
        name: "offset",
        in: "query",
        required: false,
        schema: expect.objectContaining({ type: "integer" }),
      }),
    );
    expect(get.parameters).toContainEqual(
      expect.objectContaining({ name: "path", in: "query", required: true }),
    );
    expect(document.paths["/sandboxes"].post.parameters).toContainEqual(
      expect.objectContaining({ name: "idempotency-key", in: "header" }),
    );
  });

  test("what v1 has and this server has not is 501 with a text, whatever the method", async () => {
    for (const [paths, what, remedy] of NOT_YET) {
      for (const path of paths) {
        for (const method of ["GET", "POST", "DELETE"]) {
          const answer = await ask(method, path.replace(/:\w+/g, "x").replace("*", "y"));
          expect([path, answer.status, answer.error, answer.remedy, answer.code]).toEqual([
            path,
            501,
            `this server has no ${what} yet`,
            remedy,
            "not_implemented",
          ]);
        }
      }
    }
  });
});

const S = "/sandboxes";
const X = "/sandboxes/x";
const exec = (more: object) => ["POST", `${X}/exec`, { cmd: ["true"], ...more }] as const;

describe("input that is refused, naming the member", () => {
  test.each([
    ["POST", S, { cpus: 1e9 }, "cpus must be more than 0 and at most 256"],
    ["POST", S, { cpus: -1 }, "cpus must be more than 0 and at most 256"],
    ["POST", S, { cpus: "2" }, "cpus must be more than 0 and at most 256"],
    ["POST", S, { memory_mb: 64 }, "memory_mb must be a whole number from 128 to 1048576"],
    ["POST", S, { memory_mb: 512.5 }, "memory_mb must be a whole number from 128 to 1048576"],
    ["POST", S, { disk_size_mb: -1 }, "disk_size_mb must be a whole number from 0 to 16777216"],
    ["POST", S, { cold_after_s: 1e12 }, "cold_after_s must be a whole number from 0 to 31536000"],
    ["POST", S, { keep_hot: "yes" }, "keep_hot must be true or false"],
    ["POST", S, { nmae: "x" }, 'unknown member "nmae"'],
    ["POST", S, { files: [{ guest_path: "/a", owner: "x" }] }, 'unknown member "owner" in files.0'],
    ["POST", S, { name: "a b" }, "invalid sandbox name: 1 to 63 letters"],
    ["POST", S, { env: { "A-B": "1" } }, 'invalid environment variable name "A-B"'],
    ["POST", S, [], "invalid json: an object is expected"],
    ["PATCH", X, { cpus: 4 }, 'unknown member "cpus"'],
    ["PATCH", X, { name: "" }, "invalid sandbox name"],
    ["PATCH", X, { labels_remove: Array(17).fill("a") }, "too many label keys to remove: 17 > 16"],
    ["PATCH", X, { labels_add: { "bhatti.sh/x": "1" } }, "reserved prefix"],
    ["POST", `${X}/stop`, { snyc: true }, 'unknown member "snyc"'],
    ["POST", `${X}/stop`, "{", "invalid json"],
    ["POST", `${X}/start`, { force: 1 }, "force must be true or false"],
    ["POST", `${X}/restart`, { force: 1 }, "force must be true or false"],
    ["GET", `${X}/console?boot=1`, undefined, 'unknown query parameter "boot"'],
    ["PATCH", X, { on_unresponsive: "pray" }, "on_unresponsive must be none or restart"],
    [...exec({ timeout_sec: -1 }), "timeout_sec must be a whole number from 1 to 86400"],
    [...exec({ timeout_sec: 0 }), "timeout_sec must be a whole number from 1 to 86400"],
    [...exec({ timeout_sec: 0.5 }), "timeout_sec must be a whole number from 1 to 86400"],
    [...exec({ timeout_sec: 1.5 }), "timeout_sec must be a whole number from 1 to 86400"],
    [...exec({ timeout_sec: 1e12 }), "timeout_sec must be a whole number from 1 to 86400"],
    [...exec({ timeout: 5 }), 'unknown member "timeout"'],
    [...exec({ cwd: "tmp" }), "cwd must be an absolute path"],
    [...exec({ user: "bob" }), "user must be lohar or root"],
    [...exec({ cmd: [] }), "cmd required"],
    [...exec({ cmd: undefined }), "cmd required"],
    [...exec({ cmd: "true" }), "cmd must be a list of words"],
    [...exec({ cmd: ["a\0"] }), "cmd contains NUL"],
    ["POST", "/secrets", {}, "name and value required"],
    ["POST", "/secrets", { name: "A" }, "name and value required"],
    ["POST", "/secrets", { name: "A", value: "" }, "name and value required"],
    ["POST", "/secrets", { name: "a-b", value: "v" }, "invalid secret name: 1 to 128 letters"],
    ["POST", "/secrets", { name: "A", value: 1 }, "value must be text"],
    ["POST", "/secrets", { name: "A", value_b64: "!" }, "value_b64 must be base64"],
    ["POST", "/secrets", { name: "A", value: "v", value_b64: "dg==" }, "exclude each other"],
    ["POST", "/secrets", { name: "A", value: "v", env: "B" }, 'unknown member "env"'],
    ["POST", "/secrets/", {}, "missing secret name"],
    ["POST", S, { secrets: "A" }, "secrets must be a list of names"],
    ["POST", S, { secrets: [1] }, "secrets"],
    ["POST", S, { secrets: ["a-b"] }, "invalid secret name"],
    ["POST", S, { secrets: [{ name: "A", path: "/proc/1/x" }] }, "path must not lie below /proc"],
    ["POST", S, { secrets: ["A", "A"] }, "two secrets for A"],
    ["POST", S, { secrets: [{ name: "A", file: "/x" }] }, 'unknown member "file" in secrets.0'],
    ["PATCH", X, { secrets_add: [{ name: "A", path: "x" }] }, "path must be an absolute path"],
    ["PATCH", X, { secrets_remove: "A" }, "secrets_remove"],
    ["GET", `${X}/files`, undefined, "path is required"],
    ["GET", `${X}/files?path=a`, undefined, "path must be an absolute path"],
    ["GET", `${X}/files?path=/a&offset=abc&limit=1`, undefined, "offset must be a whole number from 1"],
    ["GET", `${X}/files?path=/a&max_bytes=-5`, undefined, "max_bytes must be a whole number from 1"],
    ["GET", `${X}/files?path=/a&limit=1.5`, undefined, "limit must be a whole number from 1"],
    ["GET", `${X}/files?path=/a&offset=3`, undefined, "offset needs limit or max_bytes"],
    ["GET", `${X}/files?path=/a&lines=3`, undefined, 'unknown query parameter "lines"'],
    ["GET", `${X}/files?path=/a&ls=yes`, undefined, "ls must be true or false"],
    ["PUT", `${X}/files?path=/a&mode=rw`, "x", "mode must be octal, e.g. 0644"],
    ["PUT", `${X}/files?path=/a&owner=a b`, "x", "owner must be USER, USER:GROUP or :GROUP"],
    ["GET", `${X}/files?path=base64:eA==`, undefined, "path must be an absolute path"],
    ["GET", `${X}/files?path=base64:L3gA`, undefined, "path contains NUL"],
    ["GET", `${X}/files?path=base64:!`, undefined, "path is not base64 behind base64:"],
    ["GET", `${X}/files?path=/a&ls=1&stat=1`, undefined, "ls and stat exclude each other"],
    ["GET", `${X}/files?path=/a&ls=1&max_bytes=1`, undefined, "a listing knows limit alone"],
    ["GET", `${S}?lable=a=b`, undefined, 'unknown query parameter "lable"'],
    ["GET", `${S}?label=a`, undefined, 'invalid label filter "a"'],
    ["GET", "/events?since=x", undefined, "since must be a whole number from 0"],
    ["GET", "/events?limit=100000", undefined, "limit must be a whole number from 1 to 10000"],
    ["POST", `${X}/checkpoint`, { name: "a b" }, 'invalid snapshot name "a b": 1 to 63 letters'],
    ["POST", `${X}/checkpoint`, { name: "" }, "valid name required"],
    ["POST", `${X}/checkpoint`, {}, "valid name required"],
    ["POST", `${X}/checkpoint`, { name: "a", label: "b" }, "name and label differ"],
    ["POST", `${X}/fork`, { count: 101 }, "count must be a whole number from 1 to 100"],
    ["POST", `${X}/fork`, { count: 0 }, "count must be a whole number from 1 to 100"],
    ["POST", `${X}/fork`, { count: 2, names: ["a", "a"] }, "names must be 2 different names"],
    ["POST", `${X}/restore`, {}, "snapshot must be the name of a snapshot"],
    ["POST", "/snapshots/s/resume", { cold: true }, 'unknown member "cold"'],
    ["POST", "/snapshots/import?name=a%20b", "x", 'invalid snapshot name "a b"'],
  ] as [string, string, unknown, string][])("%s %s %j", async (method, path, body, message) => {
    const answer = await ask(method, path, body);
    expect([answer.status, answer.code]).toEqual([400, "bad_request"]);
    expect(answer.error).toContain(message);
    expect(calls.filter(([name]) => name !== "get")).toEqual([]);
  });

  test("unknown members are answered with those that there are", async () => {
    expect((await ask("PATCH", X, { cpus: 4 })).remedy).toBe(
      "there are: name, labels_add, labels_remove, keep_hot, warm_after_s, cold_after_s, on_unresponsive, secrets_add, secrets_remove",
    );
    expect((await ask("GET", `${X}/files?path=/a&lines=3`)).remedy).toBe(
      "there are: path, ls, stat, offset, limit, max_bytes",
    );
  });

  test("a body that is too large is 413 before it is read to its end", async () => {
    const answer = await ask("POST", S, { init: "x".repeat(1_100_000) });
    expect([answer.status, answer.code]).toEqual([413, "too_large"]);
    expect((await ask("POST", S, { env: { A: "x".repeat(1_000_000) } })).status).toBe(201);
  });

  test("a key that cannot be one", async () => {
    const create = (key: string) =>
      fetch(server.url + S, {
        method: "POST",
        headers: { authorization: "Bearer k", "idempotency-key": key },
        body: "{}",
      });
    expect((await create("x".repeat(256))).status).toBe(400);
    expect((await create("a b")).status).toBe(400);
    expect((await create("x".repeat(255))).status).toBe(201);
  });
});

test("no refusal of a secret repeats its value; nothing gives one back", async () => {
  for (const body of [
    { name: "A", value: { canary: 1 } },
    { name: "canary-", value: "canary" },
    { name: "A", value: "canary", x: "canary" },
    { name: "A", value: "x".repeat(2 ** 20) },
  ]) {
    const { status, error } = await ask("POST", "/secrets", body);
    expect([status >= 400, error!.includes("canary"), calls]).toEqual([true, false, []]);
  }
  expect((await ask("GET", "/secrets/A")).status).toBe(405);
  expect((await ask("PUT", "/secrets")).status).toBe(405);
  expect((await ask("POST", "/secrets", { name: "A", value: "v" })).status).toBe(201);
  expect((await ask("DELETE", "/secrets/A")).status).toBe(200);
});

describe("what existing clients send is taken as they mean it", () => {
  test.each([
    ["POST", S, { name: "", memory_mb: 0, cpus: 0, image: "" }, ["create", {}]],
    ["POST", S, { NAME: "a", Cpus: 2, memory_mb: null }, ["create", { name: "a", cpus: 2 }]],
    [
      "POST",
      S,
      { name: "a", cpus: 1, volumes: [], secrets: null, template_id: "" },
      ["create", { name: "a", cpus: 1, volumes: [], template_id: "" }],
    ],
    [
      "POST",
      S,
      { files: [{ guest_path: "/a", content: "YQ==" }] },
      ["create", { files: [{ guest_path: "/a", mode: "0644", content: { type: "Buffer", data: [97] } }] }],
    ],
    ["POST", `${X}/stop`, undefined, ["stop", ["x", {}]]],
    ["POST", `${X}/start`, { force: true }, ["start", ["x", { force: true }]]],
    ["POST", "/snapshots/s/resume", { name: "" }, ["resume", ["s", {}]]],
    ["POST", `${X}/checkpoint`, { name: "n" }, ["create", ["x", "n"]]],
    ["GET", `${X}/files?path=/a&offset=2&limit=3`, undefined, ["read", { lineOffset: 2, lineLimit: 3 }]],
    ["GET", `${X}/files?path=/a&ls=true`, undefined, ["list", {}]],
    ["GET", `${X}/files?path=base64:L/8=&stat=1`, undefined, ["stat", { path: "base64:L/8=" }]],
    ["PUT", `${X}/files?path=/a`, "x", ["write", { size: 1 }]],
    ["PUT", `${X}/files?path=/a&owner=0:0`, "x", ["write", { size: 1, owner: "0:0" }]],
    [
      "PUT",
      `${X}/files?path=/a&mode=0755`,
      "x",
      ["write", expect.objectContaining({ mode: "0755", size: 1 })],
    ],
    [
      "POST",
      `${X}/exec`,
      { cmd: ["a"], timeout_sec: 86400, output_file: "" },
      ["exec", expect.objectContaining({ timeoutMs: 86_400_000 })],
    ],
    ["POST", `${X}/exec`, { cmd: ["a"] }, ["exec", expect.objectContaining({ timeoutMs: 300_000 })]],
  ] as [string, string, unknown, unknown][])("%s %s %j", async (method, path, body, call) => {
    expect((await ask(method, path, body)).status).toBeLessThan(300);
    expect(calls).toContainEqual(call as never);
  });
});

test("only operators ask for the events of others", async () => {
  expect((await ask("GET", "/events?user=u2")).status).toBe(403);
  expect((await ask("GET", "/events?user=u")).status).toBe(200);
  expect(calls).toEqual([["events", { userId: "u" }]]);
});

test("a request over the socket that is too large, or wrong, is answered there", async () => {
  const say = (message: string) =>
    new Promise<Record<string, string>>((resolve) => {
      const socket = new WebSocket(`${server.url.replace("http", "ws")}${X}/exec/stream`, {
        headers: { authorization: "Bearer k" },
      });
      socket.onopen = () => socket.send(message);
      socket.onmessage = ({ data }) => resolve(JSON.parse(String(data)));
      socket.onclose = ({ code }) => resolve({ code: `closed ${code}` });
    });
  expect(await say(JSON.stringify({ cmd: ["echo", "x".repeat(1_200_000)] }))).toMatchObject({
    code: "too_large",
    remedy: "send data on stdin or as a file, not as arguments",
  });
  expect(await say(JSON.stringify({ cmd: ["true"], timeout_sec: 1.5 }))).toMatchObject({
    code: "bad_request",
    data: "timeout_sec must be a whole number from 1 to 86400",
  });
  expect(await say(JSON.stringify({ cmd: ["true"] }))).toEqual({ type: "ready" });
});
