/** The client against the real agent (lohar serve) and against a peer that lies. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createGuestClient } from "./client.ts";
import { encodeFrame, encodeJson, FRAME, FrameParser } from "./frames.ts";
import { guestProof, newNonce } from "./proof.ts";

const LOHAR = `${import.meta.dir}/../../dist/lohar`;
const token = "t".repeat(64);
let dir: string;
let agent: Bun.Subprocess<"ignore", "pipe", "inherit">;
let port: number;

beforeAll(async () => {
  if (!existsSync(LOHAR)) Bun.spawnSync([`${import.meta.dir}/../../lohar/build.sh`]);
  dir = mkdtempSync("/tmp/bhatti-guest-");
  writeFileSync(`${dir}/token`, token, { mode: 0o600 });
  agent = Bun.spawn(
    [LOHAR, "serve", "--listen", "127.0.0.1:0", "--token-file", `${dir}/token`, "--heartbeat", "50ms"],
    {
      stdin: "ignore",
      stdout: "pipe",
    },
  );
  const { value } = await agent.stdout.getReader().read();
  port = Number(new TextDecoder().decode(value).match(/:(\d+)/)?.[1]);
}, 60_000);
afterAll(() => {
  agent?.kill();
  rmSync(dir, { recursive: true, force: true });
});

const client = (overrides = {}) => createGuestClient({ host: "127.0.0.1", port, token, ...overrides });
const all = async <T>(batches: AsyncGenerator<T[], void>): Promise<T[]> => {
  const list: T[] = [];
  for await (const batch of batches) list.push(...batch);
  return list;
};
const collect = () => {
  const out: Uint8Array[] = [];
  return {
    sink: { stdout: (c: Uint8Array) => void out.push(c), stderr: (c: Uint8Array) => void out.push(c) },
    text: () => Buffer.concat(out).toString(),
  };
};

describe("with the real agent", () => {
  test("exec: output, stdin, exit code, timeout, cancellation", async () => {
    const guest = client();
    const uid = process.getuid!();
    const a = collect();
    expect(
      await guest.exec({ argv: ["sh", "-c", "cat; exit 3"], uid, stdin: new Blob(["in"]).stream() }, a.sink),
    ).toMatchObject({ exitCode: 3, timedOut: false });
    expect(a.text()).toBe("in");
    expect(await guest.exec({ argv: ["sleep", "60"], uid, timeoutMs: 100 }, collect().sink)).toMatchObject({
      timedOut: true,
    });
    const leave = new AbortController();
    const running = guest.exec(
      { argv: ["sleep", "60"], uid },
      { ...collect().sink, started: () => leave.abort(new Error("left")) },
      leave.signal,
    );
    await expect(running).rejects.toThrow("left");
    await expect(guest.exec({ argv: ["no-such-thing"], uid }, collect().sink)).rejects.toMatchObject({
      code: "exec_not_found",
    });
    expect(await guest.exec({ argv: ["true"], uid }, collect().sink)).toMatchObject({ exitCode: 0 });
  });

  test("files: write, read, ranges, stat, list, errors", async () => {
    const guest = client();
    const path = `${dir}/sub/file`;
    await guest.writeFile(path, new Blob(["one\ntwo\nthree\n"]).stream(), {
      mode: "0600",
      size: 14,
    });
    expect(await guest.stat(path)).toMatchObject({ size: 14, mode: "0600", isDir: false });
    expect(
      await new Response((await guest.readFile(path, { lineOffset: 2, lineLimit: 1 })).body).text(),
    ).toBe("two\n");
    expect(await all(await guest.list(`${dir}/sub`))).toMatchObject([
      { name: "file", kind: "file", links: 1 },
    ]);
    await expect(guest.list(`${dir}/none`)).rejects.toMatchObject({ code: "not_found" });
    await expect(guest.stat(`${dir}/nope`)).rejects.toMatchObject({ code: "not_found" });
    const broken = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.error(new Error("broke off")),
    });
    await expect(guest.writeFile(`${dir}/big`, broken, {})).rejects.toThrow("broke off");
    const short = guest.writeFile(`${dir}/big`, new Blob(["x"]).stream(), { size: 2 });
    await expect(short).rejects.toMatchObject({ code: "bad_request" });
    expect(existsSync(`${dir}/big`)).toBe(false);
    expect(await guest.stat(path)).toMatchObject({ size: 14 });
    // Of unknown length, onto an existing file: mode and all are kept.
    await guest.writeFile(path, new Blob(["longer than before"]).stream(), {});
    expect(await guest.stat(path)).toMatchObject({ size: 18, mode: "0600" });
  });

  test("names that are not UTF-8 go round", async () => {
    const guest = client();
    const path = Buffer.concat([Buffer.from(`${dir}/odd/`), Buffer.from([0xff, 0x41])]);
    const coded = `base64:${path.toString("base64")}`;
    await guest.writeFile(coded, new Blob(["odd"]).stream(), { mode: "0600" });
    const [entry] = await all(await guest.list(`${dir}/odd`));
    expect(entry).toMatchObject({ name: "\ufffdA", nameB64: Buffer.from([0xff, 0x41]).toString("base64") });
    expect(await new Response((await guest.readFile(coded, {})).body).text()).toBe("odd");
  });

  test("a listing is streamed: its reader may stop, and the connection is good for the next one", async () => {
    const guest = client();
    mkdirSync(`${dir}/many`);
    for (let i = 0; i < 1500; i++) writeFileSync(`${dir}/many/${i}`, "");
    expect((await all(await guest.list(`${dir}/many`))).length).toBe(1500);
    expect((await all(await guest.list(`${dir}/many`, { limit: 10 }))).length).toBe(10);
    for await (const batch of await guest.list(`${dir}/many`)) {
      expect(batch.length).toBeGreaterThan(0);
      break;
    }
    expect((await all(await guest.list(`${dir}/many`))).length).toBe(1500);
  }, 30_000);

  test("a wrong token is told apart from a lost guest, and appears in no error", async () => {
    const error = await client({ token: "wrong-secret-token" })
      .stat("/")
      .catch((e: Error) => e);
    expect(error).toMatchObject({ code: "impostor" });
    expect(String(error)).not.toContain("wrong-secret-token");
    await expect(client({ port: 1 }).ready(300)).rejects.toMatchObject({ code: "lost" });
  });

  test("tunnels and downloads wait for the agent's limit, and leave room for commands", async () => {
    const guest = client();
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    writeFileSync(`${dir}/some`, "x".repeat(100_000));
    const open: (() => void)[] = [];
    let failed = 0;
    const one = async (i: number) => {
      try {
        if (i % 2 === 0) {
          const tunnel = await guest.forward(server.port);
          open.push(() => tunnel.close());
        } else {
          const { body } = await guest.readFile(`${dir}/some`, {});
          open.push(() => void body.cancel());
        }
      } catch {
        failed++;
      }
    };
    // More than the agent takes (512): it would refuse those above.
    const all = Array.from({ length: 560 }, (_, i) => one(i));
    for (let i = 0; i < 500 && open.length < 300; i++) await Bun.sleep(10);
    await Bun.sleep(100);
    expect([open.length, failed]).toEqual([300, 0]);
    const uid = process.getuid!();
    expect(await guest.exec({ argv: ["true"], uid }, collect().sink)).toMatchObject({ exitCode: 0 });
    const end = setInterval(() => {
      for (const close of open.splice(0)) close();
    }, 5);
    await Promise.all(all);
    clearInterval(end);
    for (const close of open) close();
    expect(failed).toBe(0);
    server.stop(true);
  }, 30_000);

  test("a burst opens a few connections at a time: a slow guest answers each within its time", async () => {
    let dialled = 0;
    const slow = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: { open: () => void dialled++, data() {} },
    });
    const guest = client({ port: slow.port });
    const leave = new AbortController();
    const all = Array.from({ length: 50 }, () =>
      guest
        .exec({ argv: ["true"], uid: 0 }, collect().sink, leave.signal)
        .catch((error: Error) => error.message),
    );
    for (let i = 0; i < 100 && dialled < 8; i++) await Bun.sleep(10);
    await Bun.sleep(100);
    expect(dialled).toBe(8);
    leave.abort(new Error("left"));
    expect(new Set(await Promise.all(all))).toEqual(new Set(["left"]));
    slow.stop(true);
  }, 20_000);

  test("tunnels carry bytes both ways and half-closes", async () => {
    const echo = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: (s, d) => void s.write(d) } });
    const tunnel = await client().forward(echo.port);
    const writer = tunnel.writable.getWriter();
    await writer.write(new TextEncoder().encode("ping"));
    const { value } = await tunnel.readable.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("ping");
    tunnel.close();
    echo.stop(true);
    await expect(client().forward(1)).rejects.toMatchObject({ code: "connection_refused" });
  });
});

describe("with a hostile peer", () => {
  const nonce = newNonce();
  /** Greets like the agent of `token`, or as one who does not know it, then answers every request with `answer`. */
  const peer = (answer: Uint8Array, secret = token) => {
    const heard: Buffer[] = [];
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket, bytes) {
          heard.push(Buffer.from(bytes));
          for (const frame of new FrameParser().push(bytes)) {
            if (frame.type === FRAME.request) socket.write(answer);
            if (frame.type !== FRAME.hello) continue;
            const theirs = Buffer.from(JSON.parse(Buffer.from(frame.payload).toString()).nonce, "hex");
            const proof = guestProof(secret, theirs, nonce).toString("hex");
            const welcome = { v: 3, agent: "x", configured: true, generation: 1, proof };
            socket.write(encodeJson(FRAME.welcome, { ...welcome, nonce: nonce.toString("hex") }));
          }
        },
      },
    });
    return { port: server.port, heard, [Symbol.dispose]: () => server.stop(true) };
  };
  const liar = async (
    answer: Uint8Array,
    run: (guest: ReturnType<typeof client>) => Promise<unknown>,
    overrides = {},
  ) => {
    using server = peer(answer);
    return await run(client({ port: server.port, ...overrides })).then(
      () => "resolved",
      (error) => error.code ?? error.name,
    );
  };

  test("who has taken the agent's port is noticed and learns neither the token nor a proof of it", async () => {
    using server = peer(encodeJson(FRAME.result, {}), "another token");
    expect(
      await client({ port: server.port })
        .ports()
        .catch((e) => e.code),
    ).toBe("impostor");
    const heard = Buffer.concat(server.heard);
    expect(new FrameParser().push(heard).map((frame) => frame.type)).toEqual([FRAME.hello]);
    expect(heard.toString("latin1")).not.toContain(token);
  });

  test("silence is told from a quiet request by its heartbeats", async () => {
    const stat = (guest: ReturnType<typeof client>) => guest.stat("/");
    expect(await liar(new Uint8Array(0), stat, { silenceMs: 200 })).toBe("guest_unresponsive");
    const quiet = client({ silenceMs: 300 });
    const result = await quiet.exec({ argv: ["sleep", "1"], uid: process.getuid!() }, collect().sink);
    expect(result.exitCode).toBe(0);
    // A machine that we stopped ourselves is not sick.
    const began = performance.now();
    const stopped = async (guest: ReturnType<typeof client>) => {
      guest.standsStill(true);
      setTimeout(() => guest.standsStill(false), 500);
      await guest.stat("/");
    };
    expect(await liar(new Uint8Array(0), stopped, { silenceMs: 100 })).toBe("guest_unresponsive");
    expect(performance.now() - began).toBeGreaterThan(450);
  });

  test("frames that nobody asked for end the connection", async () => {
    const twice = Buffer.concat([encodeJson(FRAME.result, { ports: [] }), encodeFrame(FRAME.data)]);
    using server = peer(twice);
    const guest = client({ port: server.port });
    expect(await guest.ports()).toEqual([]);
    await Bun.sleep(20);
    expect(await guest.ports()).toEqual([]);
    const hellos = server.heard.filter((bytes) => bytes[4] === FRAME.hello);
    expect(hellos.length).toBe(2);
  });

  const oversize = Buffer.alloc(8);
  oversize.writeUInt32BE(0x7fffffff);

  test.each([
    ["oversized frame", oversize],
    ["result that is not JSON", encodeFrame(FRAME.result, new TextEncoder().encode("{"))],
    ["result that is an array", encodeJson(FRAME.result, [])],
    ["unexpected frame", encodeFrame(FRAME.stdin)],
    ["stat without members", encodeJson(FRAME.result, {})],
    ["unknown type", encodeFrame(0x7f)],
  ])("%s", async (_what, answer) => {
    expect(await liar(answer, (guest) => guest.stat("/"))).toBe("lost");
  });

  test("an exit code that is no number, a list of junk, an endless error text", async () => {
    expect(
      await liar(encodeJson(FRAME.result, { exit_code: "0" }), (g) =>
        g.exec({ argv: ["x"] }, collect().sink),
      ),
    ).toBe("lost");
    const list = async (g: ReturnType<typeof client>) => all(await g.list("/", { limit: 2 }));
    expect(await liar(encodeJson(FRAME.data, { not: "a list" }), list)).toBe("lost");
    const entry = { name: "x", kind: "file", size: 0, mode: "0644", uid: 0, gid: 0, links: 1, mtime: 0 };
    const end = Buffer.concat([encodeFrame(FRAME.end), encodeJson(FRAME.result, {})]);
    const entries = (...values: unknown[]) => Buffer.concat([encodeJson(FRAME.data, values), end]);
    expect(await liar(entries(entry, entry), list)).toBe("resolved");
    expect(await liar(entries(entry, entry, entry), list)).toBe("lost");
    expect(await liar(entries({ ...entry, name: "x".repeat(20_000) }), list)).toBe("lost");
    const read = async (g: ReturnType<typeof client>) =>
      new Response((await g.readFile("/x", {})).body).arrayBuffer();
    const started = encodeJson(FRAME.started, { size: 3, mode: "0644", length: 3 });
    const content = (text: string) =>
      Buffer.concat([started, encodeFrame(FRAME.data, Buffer.from(text)), end]);
    expect(await liar(content("abc"), read)).toBe("resolved");
    expect(await liar(content("abcd"), read)).toBe("lost");
    const bloated = encodeJson(FRAME.result, { ports: [], junk: "x".repeat(600_000) });
    expect(await liar(bloated, (g) => g.ports())).toBe("lost");
    const long = encodeJson(FRAME.error, { code: "c".repeat(1000), message: "m".repeat(50_000) });
    expect(await liar(long, (g) => g.stat("/"))).toBe("c".repeat(64));
  });
});
