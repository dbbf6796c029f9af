/** Published ports over a real database and a real edge, with services on this host in place of guests. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { migrations } from "../daemon/migrations.ts";
import { edgeLab, hostTunnel, type Lab } from "../edge/test-lab.ts";
import { LIMITS, Shares } from "../http/shares.ts";
import { AppError, notFound } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import { SandboxRows } from "../sandboxes/rows.ts";
import type { GuestLease } from "../sandboxes/service.ts";
import { Store } from "../store/store.ts";
import type { User } from "../users/user.ts";
import { Users } from "../users/users.ts";
import { aliasProblem, generateAlias } from "./alias.ts";
import { PublishService } from "./publishing.ts";
import { PublishRows } from "./rows.ts";
import type { Publishing } from "./service.ts";
import { Traffic } from "./traffic.ts";
import { Urls } from "./urls.ts";
import { Visitors } from "./visitors.ts";

let dir: string;
let store: Store;
let users: Users;
let ann: User;
let bob: User;
let lab: Lab;
let publishing: Publishing;
let rows: PublishRows;
let events: { type: string }[];
let service: Bun.Server<undefined>;
let seen: { url: string; headers: Headers }[];
/** Ends leases, makes wakes slow or impossible. */
let revoke: AbortController;
let wake: () => Promise<void>;
let wakes: number;
let from: "hot" | "cold";
let rateFactor: number;

/** A row with what the columns ask for. */
function sandbox(id: string, name: string, user: User): void {
  const columns = store.db
    .query<{ name: string; type: string }, []>("SELECT name, type FROM pragma_table_info('sandboxes')")
    .all();
  const slot = store.db.query<{ n: number }, []>("SELECT count(*) AS n FROM sandboxes").get()!.n + 1;
  const own: Record<string, string | number> = {
    ...{ id, name, created_by: user.id, engine_id: `e-${id}`, status: "running", slot, address: `a${slot}` },
  };
  const values = columns.map((c) => own[c.name] ?? (c.type === "TEXT" ? "" : 0));
  store.db
    .query(
      `INSERT INTO sandboxes (${columns.map((c) => c.name).join(",")}) VALUES (${columns.map(() => "?").join(",")})`,
    )
    .run(...values);
}

async function begin(): Promise<void> {
  store = new Store(`${dir}/state.db`, migrations);
  users = new Users(store);
  rows = new PublishRows(store);
  const sandboxRows = new SandboxRows(store);
  const traffic = new Traffic();
  const urls = new Urls({ zone: null, apiHost: null, publicAddress: null, port: 1, scheme: "http" });
  const get = (user: User, ref: string) => {
    const row = sandboxRows
      .all()
      .find((row) => row.created_by === user.id && (row.id === ref || row.name === ref));
    if (!row) throw notFound(`sandbox "${ref}" not found`);
    return row as never;
  };
  publishing = new PublishService({
    rows,
    sandboxes: { get },
    urls,
    traffic,
    events: { record: (event: { type: string }) => void events.push(event) } as never,
    maxOf: (id) => users.byId(id)?.maxPublished ?? null,
  });
  const visitors = new Visitors({
    rows,
    sandboxes: {
      async lease(user, ref) {
        get(user, ref);
        await wake();
        get(user, ref);
        return { sandboxId: ref, from, revoked: revoke.signal, release() {} } as unknown as GuestLease;
      },
    },
    userOf: (id) => users.byId(id),
    grantOf: (lease, name, port) => ({
      target: `${lease.sandboxId}-1-${port}`,
      sandbox: name,
      port,
      open: () => hostTunnel(port),
      revoked: lease.revoked,
    }),
    shares: new Shares(LIMITS, 0),
    traffic,
    metrics: { published() {} },
    log: createLog("silent"),
    rateFactor,
  });
  lab = await edgeLab({ begin: (begin, passage, signal) => visitors.begin(begin, passage, signal) });
  urls.listensOn(Number(new URL(lab.url).port));
}

beforeEach(async () => {
  dir = mkdtempSync("/tmp/bhatti-publish-");
  events = [];
  seen = [];
  wakes = 0;
  from = "hot";
  rateFactor = 1;
  revoke = new AbortController();
  wake = async () => void wakes++;
  service = Bun.serve({
    port: 0,
    fetch(request) {
      seen.push({ url: request.url, headers: new Headers(request.headers) });
      const { pathname } = new URL(request.url);
      if (pathname === "/slow") return new Promise(() => {});
      if (pathname === "/cookie")
        return new Response("ok", {
          headers: [
            ["set-cookie", "a=1; Domain=localhost; Path=/"],
            ["set-cookie", "bhatti-access=forged"],
          ],
        });
      return new Response(`service ${request.method} ${pathname}`);
    },
  });
  await begin();
  ann = users.create({ name: "ann", maxPublished: 3 }).user;
  bob = users.create({ name: "bob" }).user;
  sandbox("s1", "dev", ann);
  sandbox("s2", "dev", bob);
});
afterEach(async () => {
  await lab.stop();
  await service.stop(true);
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

const port = () => service.port!;
/** A visitor at a name: the address is ours, the name is in the Host. */
const visit = (alias: string, path = "/", init: RequestInit & { headers?: Record<string, string> } = {}) =>
  fetch(lab.url + path, {
    redirect: "manual",
    ...init,
    headers: { host: `${alias}.localhost:${new URL(lab.url).port}`, ...init.headers },
  });
const BROWSER = { accept: "text/html,*/*", "sec-fetch-mode": "navigate" };
const refusal = async (work: () => unknown) => {
  try {
    await work();
  } catch (error) {
    if (error instanceof AppError) return error.code;
    throw error;
  }
  return null;
};

test("names: what is taken, what is reserved, what is made", () => {
  const none = new Set<string>();
  for (const good of ["a", "0", "demo", "a--b", "demo-", "x".repeat(63)])
    expect(aliasProblem(good, none)).toBeNull();
  for (const bad of ["", "-a", "A", "a.b", "a_b", "x".repeat(64), "ä", "a\n"])
    expect(aliasProblem(bad, none)).toBe("alias must be lowercase alphanumeric with hyphens, 1-63 chars");
  for (const kept of ["www", "api", "admin", "_acme-challenge", "xn--80ak6aa92e", "10-0-0-1", "x-10-0-0-1"])
    expect(aliasProblem(kept, none)).toBe(`alias "${kept}" is reserved`);
  expect(aliasProblem("gate", new Set(["gate"]))).toBe('alias "gate" is reserved');
  const made = new Set(Array.from({ length: 1000 }, () => generateAlias("My.App_1")));
  expect(made.size).toBe(1000);
  for (const one of made) expect(one).toMatch(/^my-app-1-[a-z2-9]{20}$/);
  for (const name of ["-", "x".repeat(63), "xn--a", "1-2-3-4"])
    expect(aliasProblem(generateAlias(name), none)).toBeNull();
});

test("publish, again, list, unpublish: one name a port, one port a name, within the quota", async () => {
  const one = await publishing.publish(ann, "dev", { port: 3000, alias: "demo" });
  expect(one).toMatchObject({
    existing: false,
    rule: { sandbox_id: "s1", sandbox: "dev", port: 3000, alias: "demo", visibility: "public" },
  });
  expect(one.rule.url).toBe(`http://demo.localhost:${new URL(lab.url).port}`);
  const again = await publishing.publish(ann, "s1", { port: 3000, alias: "other" });
  expect([again.existing, again.differs, again.rule.id]).toEqual([true, ["alias"], one.rule.id]);
  expect(await refusal(() => publishing.publish(bob, "dev", { port: 80, alias: "demo" }))).toBe("conflict");
  expect(await refusal(() => publishing.publish(ann, "dev", { port: 80, alias: "www" }))).toBe("bad_request");
  expect(await refusal(() => publishing.publish(ann, "nope", { port: 80 }))).toBe("not_found");
  await publishing.publish(ann, "dev", { port: 3001 });
  await publishing.publish(ann, "dev", { port: 3002 });
  expect(await refusal(() => publishing.publish(ann, "dev", { port: 3003 }))).toBe("limit_reached");
  expect(publishing.list(ann, "dev").map((rule) => rule.port)).toEqual([3000, 3001, 3002]);
  expect(publishing.listAll(bob)).toEqual([]);
  expect(await refusal(() => publishing.unpublish(bob, "dev", 3000))).toBe("not_found");
  publishing.unpublish(ann, "dev", 3000);
  expect(await refusal(() => publishing.unpublish(ann, "dev", 3000))).toBe("not_found");
  await publishing.publish(bob, "dev", { port: 80, alias: "demo" });
  expect(events.map(({ type }) => type)).toEqual([
    ...["publish.created", "publish.created", "publish.created", "publish.deleted", "publish.created"],
  ]);
});

test("two who want one name at once: one has it", async () => {
  const results = await Promise.allSettled([
    publishing.publish(ann, "dev", { port: 1, alias: "demo", visibility: "password", password: "a" }),
    publishing.publish(bob, "dev", { port: 1, alias: "demo", visibility: "password", password: "b" }),
  ]);
  expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
});

test("a restart and a new name of the sandbox change nothing; its end frees the name", async () => {
  await publishing.publish(ann, "dev", { port: port(), alias: "demo" });
  await lab.stop();
  store.close();
  await begin();
  store.db.exec("UPDATE sandboxes SET name = 'renamed' WHERE id = 's1'");
  expect(await (await visit("demo", "/x")).text()).toBe("service GET /x");
  new SandboxRows(store).delete("s1");
  expect((await visit("demo")).status).toBe(404);
  await publishing.publish(bob, "dev", { port: 1, alias: "demo" });
});

test("a visitor gets the page, whatever the case of the name; key and cookies of ours stay here, the service's own arrive", async () => {
  await publishing.publish(ann, "dev", { port: port(), alias: "demo" });
  expect(await (await visit("DEMO", "/a?b=c")).text()).toBe("service GET /a");
  await visit("demo", "/", {
    headers: {
      authorization: "Bearer own",
      cookie: "a=1; bhatti-access=x; b=2",
      "x-forwarded-for": "192.0.2.1",
    },
  });
  const { headers } = seen.at(-1)!;
  expect(headers.get("authorization")).toBe("Bearer own");
  expect(headers.get("cookie")).toBe("a=1; b=2");
  expect(headers.get("x-forwarded-for")).toBe("127.0.0.1");
  expect(headers.get("x-forwarded-host")).toBe(`demo.localhost:${new URL(lab.url).port}`);
  expect(headers.get("x-forwarded-prefix")).toBeNull();
  expect((await visit("demo", "/cookie")).headers.getSetCookie()).toEqual(["a=1; Path=/"]);
  // The edge's word that a request is over comes behind its last byte.
  for (let i = 0; i < 100 && publishing.list(ann, "dev", true)[0]!.stats!.open > 0; i++) await Bun.sleep(10);
  const [listed] = publishing.list(ann, "dev", true);
  expect(listed!.stats).toMatchObject({ requests: 3, open: 0, errors: 0 });
});

test("a name that is not there, nothing that listens: a page for people, JSON for programs, nothing told about the owner", async () => {
  await publishing.publish(ann, "dev", { port: 1, alias: "empty" });
  for (const [alias, status, code] of [
    ["nobody", 404, "not_found"],
    ["a.b", 404, "not_found"],
    ["empty", 502, "nothing_listens"],
  ] as const) {
    const program = await visit(alias);
    expect([program.status, ((await program.json()) as { code: string }).code]).toEqual([status, code]);
    const person = await visit(alias, "/", { headers: BROWSER });
    const html = await person.text();
    expect([person.status, person.headers.get("content-type")]).toEqual([status, "text/html; charset=utf-8"]);
    expect(person.headers.get("content-security-policy")).toContain("default-src 'none'");
    expect(html).not.toMatch(/s1|ann|sandbox \S*dev/);
    if (code === "nothing_listens") expect(html).toContain("127.0.0.1 too");
  }
});

test("a password: programs by Basic, people by a form; it does not reach the service, and guessing is slow", async () => {
  await publishing.publish(ann, "dev", {
    port: port(),
    alias: "demo",
    visibility: "password",
    password: "s3cret é",
  });
  const basic = (password: string) => ({
    authorization: `Basic ${Buffer.from(`x:${password}`).toString("base64")}`,
  });
  expect((await visit("demo")).status).toBe(401);
  expect((await visit("demo", "/", { headers: basic("wrong") })).status).toBe(401);
  expect((await visit("demo", "/", { headers: basic("s3cret é") })).status).toBe(200);
  expect(seen.at(-1)!.headers.get("authorization")).toBeNull();
  expect(seen).toHaveLength(1);

  const asked = await visit("demo", "/page?x=<y>", { headers: BROWSER });
  expect(asked.status).toBe(401);
  expect(await asked.text()).toContain('name="next" value="/page?x=');
  const login = (password: string, headers: Record<string, string> = {}) =>
    visit("demo", "/.bhatti/login", {
      method: "POST",
      headers: { ...BROWSER, "content-type": "application/x-www-form-urlencoded", ...headers },
      body: new URLSearchParams({ password, next: "/page?x=1" }),
    });
  expect((await login("s3cret é", { origin: "http://evil.example" })).status).toBe(403);
  const failed = await login("wrong");
  expect([failed.status, (await failed.text()).includes("that is not the password")]).toEqual([401, true]);
  const right = await login("s3cret é");
  expect([right.status, right.headers.get("location")]).toEqual([303, "/page?x=1"]);
  const set = right.headers.get("set-cookie")!;
  expect(set).toContain("HttpOnly; SameSite=Lax");
  const cookie = set.split(";")[0]!;
  expect((await visit("demo", "/", { headers: { cookie } })).status).toBe(200);
  expect((await visit("demo", "/", { headers: { cookie: `${cookie}x` } })).status).toBe(401);
  // Of another name it opens nothing.
  await publishing.publish(bob, "dev", { port: port(), alias: "other", visibility: "link" });
  expect((await visit("other", "/", { headers: { cookie } })).status).toBe(403);

  const guesses = [];
  for (let i = 0; i < 12; i++)
    guesses.push((await visit("demo", "/", { headers: basic(`guess ${i}`) })).status);
  expect(guesses.at(-1)).toBe(429);
  // A new password ends what the old one opened.
  await publishing.publish(ann, "dev", { port: port(), visibility: "password", password: "new" });
  expect((await visit("demo", "/", { headers: { cookie } })).status).toBe(401);
  for (const row of rows.ofUser(ann.id)) expect(row.password_hash).toStartWith("$argon2id$");
}, 30_000);

test("where the form leads cannot be somebody else's page", async () => {
  await publishing.publish(ann, "dev", {
    port: port(),
    alias: "demo",
    visibility: "password",
    password: "p",
  });
  for (const next of ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nset-cookie: x=y"]) {
    const answer = await visit("demo", "/.bhatti/login", {
      method: "POST",
      body: new URLSearchParams({ password: "p", next }),
    });
    expect([answer.status, answer.headers.get("location")]).toEqual([303, "/"]);
  }
});

test("a link lets in until it expires or is taken back, and is not passed on to the service", async () => {
  await publishing.publish(ann, "dev", { port: port(), alias: "demo", visibility: "link" });
  expect((await visit("demo")).status).toBe(403);
  const { url } = publishing.share(ann, "dev", port(), 3600);
  const token = new URL(url).searchParams.get("bhatti_share")!;
  expect((await visit("demo", `/x?a=1&bhatti_share=${token}&b=2`)).status).toBe(200);
  expect(seen.at(-1)!.url).toEndWith("/x?a=1&b=2");
  const person = await visit("demo", `/x?bhatti_share=${token}`, { headers: BROWSER });
  expect([person.status, person.headers.get("location")]).toEqual([303, "/x"]);
  const cookie = person.headers.get("set-cookie")!.split(";")[0]!;
  expect((await visit("demo", "/", { headers: { cookie } })).status).toBe(200);
  const [end, signature] = token.split(".");
  const later = (Number.parseInt(end!, 36) + 1000).toString(36);
  for (const forged of [`${later}.${signature}`, `${end}.${signature!.slice(0, -1)}`, "x", `${end}.`])
    expect((await visit("demo", `/?bhatti_share=${forged}`)).status).toBe(403);
  const past = publishing.share(ann, "dev", port(), -1);
  expect((await visit("demo", new URL(past.url).search)).status).toBe(403);
  publishing.revoke(ann, "dev", port());
  expect((await visit("demo", `/?bhatti_share=${token}`)).status).toBe(403);
  expect((await visit("demo", "/", { headers: { cookie } })).status).toBe(403);
});

test("a sandbox that takes long to wake: people see that, programs wait; many wait for one wake", async () => {
  await publishing.publish(ann, "dev", { port: port(), alias: "demo" });
  const gate = Promise.withResolvers<void>();
  wake = () => gate.promise;
  from = "cold";
  const programs = Array.from({ length: 200 }, () => visit("demo"));
  const person = await visit("demo", "/", { headers: BROWSER });
  expect([person.status, person.headers.get("retry-after")]).toEqual([503, "1"]);
  expect(await person.text()).toContain('http-equiv="refresh" content="1"');
  gate.resolve();
  expect((await Promise.all(programs)).map(({ status }) => status)).toEqual(Array(200).fill(200));
  expect((await visit("demo", "/", { headers: BROWSER })).status).toBe(200);
  wake = () => Promise.reject(new AppError("memory_full", "no memory for ann's dev"));
  const full = await visit("demo");
  expect([full.status, full.headers.get("retry-after")]).toEqual([503, "2"]);
  expect(await full.text()).not.toMatch(/\bann\b|dev/);
}, 30_000);

test("unpublish, a stop and a destroy cut what runs, without a word about the owner", async () => {
  await publishing.publish(ann, "dev", { port: port(), alias: "demo" });
  const cut = visit("demo", "/slow");
  while (seen.length < 1) await Bun.sleep(5);
  publishing.unpublish(ann, "dev", port());
  expect((await cut).status).toBe(404);
  await publishing.publish(ann, "dev", { port: port(), alias: "demo" });
  const stopped = visit("demo", "/slow");
  while (seen.length < 2) await Bun.sleep(5);
  revoke.abort(new AppError("not_running", 'sandbox "dev" was stopped while this ran'));
  const answer = await stopped;
  expect(answer.status).toBe(503);
  expect(await answer.text()).not.toContain("dev");
});

test("who asks too often is told when to come again; others go on; guessing of names is slower still", async () => {
  await lab.stop();
  store.close();
  rateFactor = 0.02; // 20 at once, 4 a second
  await begin();
  await publishing.publish(ann, "dev", { port: port(), alias: "demo" });
  const codes: number[] = [];
  for (let i = 0; i < 40; i++) codes.push((await visit("demo")).status);
  expect(codes.slice(0, 10)).toEqual(Array(10).fill(200));
  expect(codes.at(-1)).toBe(429);
  const refused = await visit("demo");
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  await lab.stop();
  store.close();
  rateFactor = 0;
  await begin();
  const guesses: number[] = [];
  for (let i = 0; i < 40; i++) guesses.push((await visit(`guess-${i}`)).status);
  expect([guesses[0], guesses.at(-1)]).toEqual([404, 429]);
  expect((await visit("demo")).status).toBe(200);
});
