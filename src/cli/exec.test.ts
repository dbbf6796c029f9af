/** `bhatti exec` against a fake exec stream: bytes, statuses, signals, lost connections. */
import { expect, test } from "bun:test";
import { bhatti, FakeDaemon, start } from "./fake-daemon.ts";

type Socket = Bun.ServerWebSocket<undefined>;
const frame = (kind: number, data: string | Uint8Array) =>
  Buffer.concat([Buffer.from([kind]), Buffer.from(data as string)]);
const exit = (socket: Socket, code: number) => {
  socket.send(JSON.stringify({ type: "exit", exit_code: code }));
  socket.close(1000);
};

/** A fake exec stream: `run` acts once the request is there, `stdin` gets what arrives until its end. */
function stream(
  run: (socket: Socket, request: Record<string, unknown>) => void,
  stdin?: (socket: Socket, all: Buffer) => void,
) {
  let request: Record<string, unknown> | undefined;
  let received: Buffer[] = [];
  let taken = 0;
  const closed = Promise.withResolvers<void>();
  const daemon = new FakeDaemon(() => undefined, {
    message(socket, message) {
      if (typeof message !== "string") {
        received.push(Buffer.from(message));
        taken += message.length;
        return void socket.send(JSON.stringify({ type: "stdin_taken", bytes: taken }));
      }
      const value = JSON.parse(message) as Record<string, unknown>;
      if (request === undefined) {
        request = value;
        socket.send('{"type":"ready"}');
        run(socket, value);
      } else if (value.type === "stdin_eof") {
        stdin?.(socket, Buffer.concat(received));
        received = [];
      }
    },
    close: () => closed.resolve(),
  });
  return { daemon, closed: closed.promise };
}

test("output is byte-exact and goes to its own stream; the status is the command's", async () => {
  const data = crypto.getRandomValues(new Uint8Array(500_000));
  const { daemon } = stream((socket) => {
    socket.send(frame(1, data.subarray(0, 250_001)));
    socket.send(frame(2, "complaint\n"));
    socket.send(frame(1, data.subarray(250_001)));
    exit(socket, 42);
  });
  await using _ = daemon;
  const done = await bhatti(["exec", "dev", "ls", "--json", "-la"], { url: daemon.url });
  expect(done.bytes).toEqual(data);
  expect([done.stderr, done.code]).toEqual(["complaint\n", 42]);
}, 30_000);

test("argv, environment, directory and user are on the wire; stdin goes along to its end", async () => {
  const seen: Record<string, unknown>[] = [];
  const { daemon } = stream(
    (_socket, request) => seen.push(request),
    (socket, all) => {
      socket.send(frame(1, all));
      exit(socket, 0);
    },
  );
  await using _ = daemon;
  const data = crypto.getRandomValues(new Uint8Array(3_000_000));
  const args = [
    "exec",
    "--timeout",
    "2m",
    "-e",
    "A=1",
    "-w",
    "/srv",
    "-u",
    "root",
    "dev",
    "--",
    "cat",
    "--",
    "-e",
  ];
  const done = await bhatti(args, { url: daemon.url, stdin: data });
  expect(Buffer.from(done.bytes).equals(Buffer.from(data))).toBe(true);
  expect(seen).toEqual([
    { cmd: ["cat", "--", "-e"], timeout_sec: 120, env: { A: "1" }, cwd: "/srv", user: "root" },
  ]);
}, 30_000);

test("-n and /dev/null give an empty stdin", async () => {
  for (const options of [{ stdin: "not this" }, {}]) {
    const { daemon } = stream(
      () => {},
      (socket, all) => exit(socket, all.length === 0 ? 7 : 8),
    );
    await using _ = daemon;
    expect((await bhatti(["exec", "-n", "dev", "--", "cat"], { url: daemon.url, ...options })).code).toBe(7);
  }
}, 30_000);

test("--json: one object, the status still the command's, base64 for what is not text", async () => {
  const { daemon } = stream((socket) => {
    socket.send(frame(1, Buffer.from([0xff, 0x00])));
    exit(socket, 3);
  });
  await using _ = daemon;
  const done = await bhatti(["exec", "--json", "dev", "--", "x"], { url: daemon.url });
  expect(done.code).toBe(3);
  const told = JSON.parse(done.stdout);
  expect(told).toMatchObject({ exit_code: 3, stderr: "", stdout_base64: "/wA=", detached: false });
  expect("pid" in told).toBe(false); // it is not known, and 0 is none
}, 30_000);

test("a timeout is 124, a guest that fails 125, and both say so", async () => {
  for (const [code, status] of [
    ["timeout", 124],
    ["guest_failed", 125],
  ] as const) {
    const { daemon } = stream((socket) => {
      socket.send(JSON.stringify({ type: "error", code, data: "it went wrong" }));
      socket.close(1000);
    });
    await using _ = daemon;
    const done = await bhatti(["exec", "dev", "--", "x"], { url: daemon.url });
    expect(done.code).toBe(status);
    expect(done.stderr).toMatch(/^error: .+\n/);
  }
}, 30_000);

test("a connection that ends without a word on the command's end is 125", async () => {
  const { daemon } = stream((socket) => {
    socket.send(frame(1, "half"));
    setTimeout(() => socket.terminate(), 50);
  });
  await using _ = daemon;
  const done = await bhatti(["exec", "dev", "--", "x"], { url: daemon.url });
  expect([done.code, done.stdout]).toEqual([125, "half"]);
  expect(done.stderr).toContain("before the command did");
}, 30_000);

test("a refused handshake tells the server's reason", async () => {
  await using daemon = new FakeDaemon(() => undefined);
  const done = await bhatti(["exec", "nobody", "--", "x"], { url: daemon.url });
  expect([done.code, done.stderr]).toEqual([125, expect.stringContaining("not found")]);
  expect((await bhatti(["exec", "dev", "--", "x"], { url: "http://127.0.0.1:1" })).code).toBe(125);
  expect((await bhatti(["exec", "dev"], { url: daemon.url })).code).toBe(125);
}, 30_000);

test("handshakes that the server's limits refuse are tried again: 30 at once with room for 5 all work", async () => {
  let open = 0;
  let refused = 0;
  const busy = () =>
    Response.json({ error: "busy", code: "rate_limited" }, { status: 429, headers: { "retry-after": "0" } });
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch(request, self) {
      if (open >= 5) {
        refused++;
        return busy();
      }
      if (!request.headers.has("upgrade"))
        return Response.json({ error: "a WebSocket handshake is expected" }, { status: 400 });
      self.upgrade(request);
      return undefined;
    },
    websocket: {
      open: () => void open++,
      close: () => void open--,
      message: (socket) => {
        setTimeout(() => exit(socket as Socket, 7), 100);
      },
    },
  });
  try {
    const { Client } = await import("../client/client.ts");
    const client = new Client({ url: server.url.href });
    const sink = { stdout() {}, stderr() {} };
    const all = await Promise.all(
      Array.from({ length: 30 }, () => client.exec.run("dev", { cmd: ["x"] }, sink)),
    );
    expect(all.every(({ exitCode }) => exitCode === 7)).toBe(true);
    expect(refused).toBeGreaterThan(0);
  } finally {
    await server.stop(true);
  }
}, 30_000);

for (const [signal, status] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)
  test(`${signal} closes the connection and leaves with ${status}`, async () => {
    const { daemon, closed } = stream((socket) => void socket.send(frame(1, "started\n")));
    await using _ = daemon;
    const child = start(["exec", "dev", "--", "sleep", "1000"], { url: daemon.url });
    const reader = child.stdout.getReader();
    await reader.read();
    child.kill(signal);
    expect(await child.exited).toBe(status);
    await closed;
  }, 30_000);

test("a reader that goes away ends exec quietly and closes the connection", async () => {
  const { daemon, closed } = stream((socket) => {
    const more = setInterval(() => {
      if (socket.readyState !== 1) return clearInterval(more);
      socket.send(frame(1, "y\n".repeat(30_000)));
    }, 5);
  });
  await using _ = daemon;
  const script = `"$@" | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const child = Bun.spawn(
    [
      "bash",
      "-c",
      script,
      "-",
      process.execPath,
      `${import.meta.dir}/../main.ts`,
      "exec",
      "dev",
      "--",
      "yes",
    ],
    {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: { PATH: process.env.PATH!, HOME: "/nonexistent", BHATTI_URL: daemon.url, BHATTI_TOKEN: "x" },
    },
  );
  expect(await new Response(child.stdout).text()).toBe("y\n141\n");
  expect(await new Response(child.stderr).text()).toBe("");
  await closed;
}, 30_000);

test("--detach prints pid and file", async () => {
  await using daemon = new FakeDaemon(() =>
    Response.json({ pid: 12, output_file: "/tmp/o.log", detached: true }),
  );
  const done = await bhatti(["exec", "--detach", "dev", "--", "server"], { url: daemon.url });
  expect(done).toMatchObject({ code: 0, stdout: "pid: 12\noutput: /tmp/o.log\n" });
  expect(JSON.parse(daemon.last().body)).toEqual({ cmd: ["server"], detach: true });
  // It has only begun: a status would be a lie.
  const asJson = await bhatti(["exec", "--json", "--detach", "dev", "--", "server"], { url: daemon.url });
  expect(JSON.parse(asJson.stdout)).toEqual({ pid: 12, output_file: "/tmp/o.log", detached: true });
}, 30_000);

test("output that cannot be written is a failure of ours, 125, and the command is ended", async () => {
  const { daemon, closed } = stream((socket) => void socket.send(frame(1, "x".repeat(100_000))));
  await using _ = daemon;
  const child = Bun.spawn(
    [
      "sh",
      "-c",
      'exec "$@" >/dev/full',
      "-",
      process.execPath,
      `${import.meta.dir}/../main.ts`,
      "exec",
      "dev",
      "--",
      "yes",
    ],
    {
      stdin: "ignore",
      stderr: "pipe",
      env: { PATH: process.env.PATH!, HOME: "/nonexistent", BHATTI_URL: daemon.url, BHATTI_TOKEN: "x" },
    },
  );
  expect(await new Response(child.stderr).text()).toBe(
    "error: cannot write the output: no space is left where it goes\n",
  );
  expect(await child.exited).toBe(125);
  await closed;
}, 30_000);

test("a time that the server does not take, and too many arguments, are told before anything is sent", async () => {
  const { daemon } = stream((socket) => exit(socket, 0));
  await using _ = daemon;
  const long = await bhatti(["exec", "--timeout", "2d", "dev", "--", "x"], { url: daemon.url });
  expect([long.code, long.stderr]).toEqual([
    125,
    expect.stringContaining('--timeout: "2d" is too long: at most 1d'),
  ]);
  expect(daemon.seen.length).toBe(0);
  const words = Array.from({ length: 12 }, () => "x".repeat(100_000));
  const many = await bhatti(["exec", "dev", "--", "echo", ...words], { url: daemon.url });
  expect([many.code, many.stderr]).toEqual([
    125,
    "error: arguments and environment are larger than 1048576 bytes together\nhint:  send data on stdin or as a file, not as arguments\n",
  ]);
}, 30_000);
