/** Secrets over a real database and key file; sandboxes are a list. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { migrations } from "../daemon/migrations.ts";
import type { AppError } from "../lib/errors.ts";
import { Store } from "../store/store.ts";
import type { User } from "../users/user.ts";
import { Users } from "../users/users.ts";
import { type Key, newKey, readKeys, writeKeys } from "./key-file.ts";
import { Keyring } from "./keyring.ts";
import { changedRefs, type SecretRef, secretRefs } from "./reference.ts";
import { SecretRows } from "./rows.ts";
import { SecretService } from "./secrets.ts";

let dir: string;
let store: Store;
let rows: SecretRows;
let keyring: Keyring;
let secrets: SecretService;
let ann: User;
let bob: User;
let given: { name: string; refs: SecretRef[] }[];
let events: unknown[];

const file = () => `${dir}/age.key`;
const bytes = (text: string) => Buffer.from(text);
const set = (name: string, value: string, user = ann) => secrets.set(user, name, bytes(value));
const value = async (name: string, user = ann) =>
  (await secrets.environment(user.id, [{ name, env: "V" }])).V ?? null;

/** As a daemon's start does it. */
async function start(): Promise<void> {
  store = new Store(`${dir}/state.db`, migrations);
  rows = new SecretRows(store);
  keyring = new Keyring(rows, file());
  await keyring.open();
  secrets = new SecretService({
    rows,
    keyring,
    sandboxes: { given: () => given, changed: async () => {} },
    events: { record: (event: unknown) => void events.push(event) } as never,
  });
}

async function restart(): Promise<void> {
  store.close();
  await start();
}

beforeEach(async () => {
  dir = mkdtempSync("/tmp/bhatti-secrets-");
  given = [];
  events = [];
  await start();
  const users = new Users(store);
  ann = users.create({ name: "ann", maxSecrets: 3 }).user;
  bob = users.create({ name: "bob" }).user;
});
afterEach(() => {
  store.close();
  rmSync(dir, { recursive: true, force: true });
});

const refusal = (work: Promise<unknown>) =>
  work.then(
    () => ({ code: "none", message: "", remedy: "" }),
    (error: unknown) => {
      const { code, message, remedy } = error as AppError;
      return { code, message, remedy };
    },
  );

describe("what is stored", () => {
  test("opens again, keeps its first time, has real times, and is nowhere in the clear", async () => {
    const before = new Date(Date.now() - 1).toISOString();
    const made = await set("TOKEN", "canary-in-the-clear");
    expect(made.created_at > before && made.created_at === made.updated_at).toBe(true);
    await Bun.sleep(2);
    const again = await set("TOKEN", "canary-in-the-clear-2");
    expect([again.created_at, again.updated_at > made.updated_at]).toEqual([made.created_at, true]);
    await set("ALPHA", "a");
    await restart();
    expect(await value("TOKEN")).toBe("canary-in-the-clear-2");
    expect(secrets.list(ann).map(({ name }) => name)).toEqual(["ALPHA", "TOKEN"]);
    expect(JSON.stringify([secrets.list(ann), events])).not.toContain("canary");
    store.db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    expect(readFileSync(`${dir}/state.db`, "latin1")).not.toContain("canary");
    expect(statSync(file()).mode & 0o777).toBe(0o600);
  });

  test("belongs to one user: others neither see nor delete it, and a row that is moved does not open", async () => {
    await set("TOKEN", "of ann");
    expect(secrets.list(bob)).toEqual([]);
    expect(await value("TOKEN", bob)).toBeNull();
    expect((await refusal(secrets.delete(bob, "TOKEN"))).message).toBe('secret "TOKEN" not found');
    expect(() => secrets.assertUsable(bob.id, [{ name: "TOKEN", env: "TOKEN" }])).toThrow("not found");
    store.db.query("UPDATE secrets SET user_id = ?").run(bob.id);
    expect(await refusal(value("TOKEN", bob))).toMatchObject({
      code: "secret_unreadable",
      message: 'decrypt secret "TOKEN" failed',
    });
    store.db.query("UPDATE secrets SET user_id = ?").run(ann.id);
    expect(await value("TOKEN")).toBe("of ann");
  });

  test("a damaged value fails by its name, others open", async () => {
    await set("BAD", "x");
    await set("GOOD", "y");
    const sealed = Buffer.from(rows.find(ann.id, "BAD")!.value);
    sealed[sealed.length - 1]! ^= 1;
    store.db.query("UPDATE secrets SET value = ? WHERE name = 'BAD'").run(sealed);
    expect((await refusal(value("BAD"))).message).toBe('decrypt secret "BAD" failed');
    expect(await value("GOOD")).toBe("y");
  });
});

describe("limits", () => {
  test("names, empty and large values", async () => {
    for (const name of ["", "1A", "A-B", "A.B", "A=B", "A\0", "ä", "A".repeat(129), "../x"])
      expect([name, (await refusal(set(name, "v"))).code]).toEqual([name, "bad_request"]);
    expect((await refusal(set("A", ""))).message).toBe("name and value required");
    expect((await refusal(set("A", "x".repeat(65_537)))).code).toBe("too_large");
    await set("A".repeat(128), "x".repeat(65_536));
  });

  test("the quota holds under calls at the same time, and a replacement needs none", async () => {
    const done = await Promise.all(Array.from({ length: 12 }, (_, i) => refusal(set(`S${i}`, "v"))));
    expect(done.filter(({ code }) => code === "none")).toHaveLength(3);
    expect(done.find(({ code }) => code !== "none")).toMatchObject({
      code: "limit_reached",
      message: "secret limit reached (3/3)",
    });
    const { name } = secrets.list(ann)[0]!;
    await set(name, "another");
    await secrets.delete(ann, name);
    await set("NEW", "v");
    new Users(store).setLimits("ann", { maxSecrets: 4 });
    await set("MORE", "v");
    await set("S1", "v", bob);
  });

  test("a user who owns secrets stays; one that is gone gets none", async () => {
    await set("A", "v");
    expect(() => new Users(store).delete("ann")).toThrow("still owns 1 secrets");
    await secrets.delete(ann, "A");
    new Users(store).delete("ann");
    expect((await refusal(set("A", "v"))).code).toBe("unauthorized");
    expect(rows.count(ann.id)).toBe(0);
  });

  test("what a sandbox has cannot outgrow it, nor become bytes where it is a variable", async () => {
    await set("A", "x".repeat(65_536));
    await set("B", "x".repeat(65_536));
    await secrets.set(ann, "RAW", Buffer.from([0, 255]));
    const asEnv = (...names: string[]) => names.map((name) => ({ name, env: name }));
    secrets.assertUsable(ann.id, asEnv("A", "B"));
    expect(() => secrets.assertUsable(ann.id, [...asEnv("A", "B"), { name: "A", env: "C" }])).toThrow(
      "more than 131072 bytes together",
    );
    expect(() => secrets.assertUsable(ann.id, asEnv("RAW"))).toThrow("is no text");
    secrets.assertUsable(ann.id, [{ name: "RAW", path: "/x" }]);
    given = [{ name: "box", refs: [...asEnv("A"), { name: "B", env: "B" }, { name: "RAW", path: "/x" }] }];
    expect(await refusal(secrets.set(ann, "A", Buffer.from([0])))).toMatchObject({
      code: "conflict",
      message: expect.stringContaining('sandbox "box" has it as one'),
    });
    given = [{ name: "box", refs: [...asEnv("A"), { name: "A", env: "A2" }, { name: "B", path: "/b" }] }];
    await set("B", "small");
    await set("A", "y".repeat(65_536));
    given[0]!.refs.push({ name: "B", env: "B" });
    expect((await refusal(set("B", "larger"))).message).toContain('sandbox "box" cannot take it');
    expect(await value("B")).toBe("small");
  });

  test("used_by names sandboxes; a delete tells them, and is seen at once", async () => {
    await set("A", "v");
    given = [{ name: "box", refs: [{ name: "A", env: "A" }] }];
    expect(secrets.list(ann)[0]!.used_by).toEqual(["box"]);
    const version = secrets.version(ann.id);
    expect(await secrets.delete(ann, "A")).toEqual({ used_by: ["box"] });
    expect([await value("A"), secrets.version(ann.id) > version]).toEqual([null, true]);
  });
});

describe("the key file", () => {
  test("is made by the first secret, not before", async () => {
    expect(existsSync(file())).toBe(false);
    await set("A", "v");
    expect(readFileSync(file(), "utf8")).toMatch(/^AGE-SECRET-KEY-1[A-Z0-9]+$/m);
  });

  test("one that cannot be written is tried again, and what a killed writer left goes", async () => {
    keyring = new Keyring(rows, `${dir}/not-there/age.key`);
    secrets = new SecretService({
      rows,
      keyring,
      sandboxes: { given: () => given, changed: async () => {} },
      events: { record() {} } as never,
    });
    expect((await refusal(set("A", "v"))).code).toBe("ENOENT");
    expect(rows.count(ann.id)).toBe(0);
    mkdirSync(`${dir}/not-there`);
    await set("A", "v");
    expect(await value("A")).toBe("v");
    writeFileSync(`${dir}/not-there/age.key.new`, "half", { mode: 0o600 });
    await keyring.open();
    expect(readdirSync(`${dir}/not-there`)).toEqual(["age.key"]);
  });

  test("an empty one without secrets is taken for none; one with comments and several keys is read", async () => {
    writeFileSync(file(), "\n \n", { mode: 0o600 });
    await restart();
    await set("A", "v");
    const [mine] = await readKeys(file());
    const other = await newKey();
    writeFileSync(
      file(),
      `# made by age-keygen\n# public key: x\n${other.identity}\n\n  ${mine!.identity}  \n`,
    );
    await restart();
    expect(await value("A")).toBe("v");
    await set("B", "w");
    expect(
      rows
        .recipients()
        .map(({ recipient }) => recipient)
        .sort(),
    ).toEqual([mine!.recipient, other.recipient].sort());
    // Nobody rotates: both stay.
    expect(await readKeys(file())).toHaveLength(2);
  });

  test.each([
    ["missing", () => rmSync(file()), "is missing or empty, but there are 1 stored secrets"],
    ["empty", () => writeFileSync(file(), ""), "is missing or empty"],
    ["only comments", () => writeFileSync(file(), "# lost\n"), "is missing or empty"],
    [
      "damaged",
      () => writeFileSync(file(), `${readFileSync(file(), "utf8").slice(0, -20)}\n`),
      "is no age identity",
    ],
    ["garbage", () => writeFileSync(file(), "hello\0"), "line 1 is no age identity"],
  ])(
    "%s with secrets: no start, nothing changed, the remedy named; put back, all is well",
    async (_what, harm, says) => {
      await set("A", "v");
      const good = readFileSync(file());
      const [{ recipient }] = (await readKeys(file())) as [Key];
      harm();
      const bad = existsSync(file()) ? readFileSync(file(), "latin1") : null;
      store.close();
      const failed = await refusal(start());
      expect(failed).toMatchObject({ code: "unavailable", message: expect.stringContaining(says) });
      expect(failed.remedy).toContain(recipient);
      expect(failed.remedy).toContain("bhatti host secret-key forget");
      expect(JSON.stringify(failed)).not.toContain("AGE-SECRET-KEY-1Q");
      expect(existsSync(file()) ? readFileSync(file(), "latin1") : null).toBe(bad);
      store.close();
      writeFileSync(file(), good);
      chmodSync(file(), 0o600);
      await start();
      expect(await value("A")).toBe("v");
    },
  );

  test("open to others: no start, and how to close it", async () => {
    await set("A", "v");
    chmodSync(file(), 0o644);
    store.close();
    expect(await refusal(start())).toMatchObject({
      message: expect.stringContaining("mode 0600"),
      remedy: expect.stringContaining("chmod 600"),
    });
    chmodSync(file(), 0o600);
    await restart();
    expect(await value("A")).toBe("v");
  });

  test("another server's: no start, and it is not written over; forget gives up what is lost, and only that", async () => {
    await set("A", "v");
    await writeKeys(file(), [await newKey()]);
    const foreign = readFileSync(file(), "utf8");
    store.close();
    expect((await refusal(start())).message).toContain("does not open 1 of 1 stored secrets");
    expect(readFileSync(file(), "utf8")).toBe(foreign);
    expect(await keyring.forget()).toBe(1);
    await restart();
    expect(secrets.list(ann)).toEqual([]);
    await set("A", "new");
    expect(await keyring.forget()).toBe(0);
    expect(await value("A")).toBe("new");
  });

  test("gone or changed under a running daemon: what is stored can be used, nothing is set; a rotation mends it", async () => {
    await set("A", "v");
    rmSync(file());
    const refused = await refusal(set("B", "w"));
    expect(refused.code).toBe("unavailable");
    // Of no interest to a tenant, and none of their business.
    expect(JSON.stringify(refused)).not.toContain(dir);
    await writeKeys(file(), [await newKey()]);
    expect((await refusal(set("B", "w"))).code).toBe("unavailable");
    // Not lost either: what is in use opens it.
    expect(await keyring.forget()).toBe(0);
    expect([await value("A"), rows.count(ann.id)]).toEqual(["v", 1]);
    await keyring.rotate();
    await set("B", "w");
    await restart();
    expect([await value("A"), await value("B")]).toEqual(["v", "w"]);
  });
});

describe("a new key", () => {
  const fill = async () => {
    await set("A", "one");
    await set("B", "two");
    await set("C", "three", bob);
  };
  const all = async () => [await value("A"), await value("B"), await value("C", bob)];
  const mine = ["one", "two", "three"];

  test("encrypts everything anew; the old one opens nothing and old ciphertexts are gone from the files", async () => {
    await fill();
    const [old] = await readKeys(file());
    const sealed = Buffer.from(rows.find(ann.id, "A")!.value).toString("latin1");
    const done = await keyring.rotate();
    expect([done.secrets, await all()]).toEqual([3, mine]);
    const now = await readKeys(file());
    expect(now.map(({ recipient }) => recipient)).toEqual([done.recipient]);
    expect(rows.recipients()).toEqual([{ recipient: done.recipient, count: 3 }]);
    expect(readFileSync(file(), "utf8")).not.toContain(old!.identity);
    for (const end of ["", "-wal"])
      if (existsSync(`${dir}/state.db${end}`))
        expect(readFileSync(`${dir}/state.db${end}`, "latin1").includes(sealed)).toBe(false);
    await restart();
    expect(await all()).toEqual(mine);
  });

  test("sets and reads at the same time are not lost", async () => {
    await fill();
    const work = [keyring.rotate(), set("A", "later"), keyring.rotate(), all(), set("B", "later")];
    await Promise.all(work);
    expect(await all()).toEqual(["later", "later", "three"]);
    expect(rows.recipients()).toHaveLength(1);
    await restart();
    expect(await all()).toEqual(["later", "later", "three"]);
  });

  test("a value that does not open stops it: nothing is lost, and the next start finishes once it is gone", async () => {
    await fill();
    store.db.query("UPDATE secrets SET value = x'00' WHERE name = 'B'").run();
    expect((await refusal(keyring.rotate())).message).toBe('decrypt secret "B" failed');
    expect([await value("A"), await value("C", bob)]).toEqual(["one", "three"]);
    await restart();
    expect(await value("A")).toBe("one");
    await secrets.delete(ann, "B");
    await restart();
    expect(rows.recipients()).toHaveLength(1);
    expect((await readKeys(file())).length).toBe(1);
    expect([await value("A"), await value("C", bob)]).toEqual(["one", "three"]);
  });

  test.each(["begin", "written", "resealing", "resealed", "end"])(
    "killed at %s: key and database open together, and the next start finishes it",
    async (point) => {
      await fill();
      store.close();
      const [before] = await readKeys(file());
      writeFileSync(`${dir}/fault`, `kill secret-key:${point}`);
      const child = Bun.spawn(
        [process.execPath, `${import.meta.dir}/rotate.fixture.ts`, `${dir}/state.db`, file()],
        { env: { ...process.env, BHATTI_FAULT_FILE: `${dir}/fault` }, stdout: "ignore", stderr: "ignore" },
      );
      await child.exited;
      expect([child.signalCode, existsSync(`${dir}/fault`)]).toEqual(["SIGKILL", false]);
      await start();
      expect(await all()).toEqual(mine);
      const keys = await readKeys(file());
      expect(keys).toHaveLength(1);
      expect(keys[0]!.recipient === before!.recipient).toBe(point === "begin");
      expect(rows.recipients()).toEqual([{ recipient: keys[0]!.recipient, count: 3 }]);
      await set("A", "goes on");
      expect(await value("A")).toBe("goes on");
    },
    30_000,
  );
});

describe("how a create names them", () => {
  const parsed = (value: unknown) => secretRefs.safeParse(value);

  test("names are variables; objects say where", () => {
    expect(
      parsed([
        "A",
        { name: "A", env: "B" },
        { name: "C", path: "/run/secrets/C" },
        { name: "D", path: "/etc/d", env: "D", mode: "640", owner: "root:adm" },
      ]).data,
    ).toEqual([
      { name: "A", env: "A" },
      { name: "A", env: "B" },
      { name: "C", path: "/run/secrets/C", mode: "0400", owner: "" },
      { name: "D", env: "D", path: "/etc/d", mode: "0640", owner: "root:adm" },
    ]);
  });

  test("a change: what is added takes the place, what is removed goes in every form", () => {
    const have = parsed(["A", { name: "B", path: "/b", env: "B" }, { name: "C", path: "/c" }]).data!;
    const change = (add: unknown[], remove: string[]) => changedRefs(have, parsed(add).data!, remove);
    expect(change([], ["B", "NONE"])).toEqual([have[0]!, have[2]!]);
    expect(
      change(
        [
          { name: "D", env: "A" },
          { name: "D", path: "/b" },
        ],
        [],
      ),
    ).toEqual([
      { name: "B", env: "B" },
      have[2]!,
      { name: "D", env: "A" },
      { name: "D", path: "/b", mode: "0400", owner: "" },
    ]);
    expect(change(["A"], ["A"])).toEqual([have[1]!, have[2]!, have[0]!]);
  });

  test("what is refused", () => {
    for (const bad of [
      "A",
      ["a-b"],
      [""],
      ["A", "A"],
      [{ name: "A", env: "B=C" }],
      [{ name: "A", mode: "0400" }],
      [{ name: "A", path: "/x", mode: "4755" }],
      [{ name: "A", path: "/x", mode: "rw" }],
      [{ name: "A", path: "/x", owner: "a b" }],
      [{ name: "A", path: "/x", owner: "root\nx" }],
      [{ name: "A", path: "/x", more: 1 }],
      [
        { name: "A", path: "/x" },
        { name: "B", path: "/x" },
      ],
      ...[
        "x",
        "/",
        "/a/../b",
        "/a//b",
        "/a/",
        "/./a",
        "/proc/self/x",
        "/sys/x",
        "/dev/shm/x",
        "/run/bhatti/x",
        "/run",
        "/run/secrets",
        "/run/secrets/a/b",
        "/run/secrets/.x",
        "/a\0",
      ].map((path) => [{ name: "A", path }]),
      Array.from({ length: 65 }, (_, i) => `A${i}`),
    ])
      expect([bad, parsed(bad).success]).toEqual([bad, false]);
  });
});
