/** The edge between real clients and real servers: what arrives is what was sent, what the host must keep stays, all ends end. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readlinkSync } from "node:fs";
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { Hono } from "hono";
import type { HttpEnv } from "../http/env.ts";
import { AppError } from "../lib/errors.ts";
import { edgeLab, type Lab } from "./test-lab.ts";

let lab: Lab;
const gone = new AbortController();

const api = new Hono<HttpEnv<{ id: string }>>();
api.get("/peer", (c) => c.text(`${c.env.peer} ${c.req.header("host")}`));
api.post("/echo", (c) => new Response(c.req.raw.body));
api.all("*", (c) => c.text(`api ${new URL(c.req.url).pathname}`, 404));

beforeAll(async () => {
  lab = await edgeLab({ api });
});
afterAll(() => lab.stop());

const closers: (() => void)[] = [];
afterAll(() => {
  for (const close of closers) close();
});

/** A service that says exactly `answer` to each request and notes what it got; `then` may go on. */
async function service(
  answer: string | ((socket: Socket, head: string) => void),
): Promise<{ at: string; got: string[]; sockets: Set<Socket>; server: Server }> {
  const got: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {});
    let head = "";
    let answered = false;
    socket.on("data", (data) => {
      head += data.toString("latin1");
      got[got.length - (answered ? 1 : 0)] = head;
      if (answered || !head.includes("\r\n\r\n")) return;
      answered = true;
      if (typeof answer === "string") socket.end(answer);
      else answer(socket, head);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const { port } = server.address() as { port: number };
  return { at: `/sandboxes/dev/proxy/${port}`, got, sockets, server };
}

/** Sends bytes as they are and reads until the other side closes. */
function raw(bytes: string, ms = 3000): Promise<string> {
  const { hostname, port } = new URL(lab.url);
  return new Promise((resolve) => {
    let answer = "";
    const socket = dial({ host: hostname, port: Number(port) }, () => socket.write(bytes, "latin1"));
    const timer = setTimeout(() => socket.destroy(), ms);
    socket.on("data", (data) => {
      answer += data.toString("latin1");
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(answer);
    });
  });
}

const until = async (done: () => boolean): Promise<void> => {
  for (let i = 0; i < 300 && !done(); i++) await Bun.sleep(10);
  expect(done()).toBe(true);
};

test("the API is behind it, with the client's address, which nobody can claim", async () => {
  const headers = { "x-bhatti-peer": "192.0.2.9", "x-forwarded-for": "192.0.2.8" };
  expect(await (await fetch(`${lab.url}/peer`, { headers })).text()).toBe(
    `127.0.0.1 ${new URL(lab.url).host}`,
  );
  const body = Buffer.alloc(3_000_000, "x");
  const echo = await fetch(`${lab.url}/echo`, { method: "POST", body });
  expect(Buffer.from(await echo.arrayBuffer()).equals(body)).toBe(true);
});

test("the guest gets the request as it was sent, without key and cookies of the host", async () => {
  const { at, got } = await service("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
  await fetch(`${lab.url}${at}/a%2Fb/../%7ec;d?q=1;2&&x=%zz`, {
    headers: {
      authorization: "Bearer bht_secret",
      "proxy-authorization": "Basic x",
      cookie: "session=of-the-host",
      "x-app": "kept",
      "x-forwarded-host": "forged",
      "x-bhatti-peer": "forged",
      forwarded: "for=forged",
    },
  });
  const [head = ""] = got;
  // fetch itself resolves dots in a path; the rest is as it was written.
  expect(head).toStartWith("GET /%7ec;d?q=1;2&&x=%zz HTTP/1.1\r\n");
  expect(head.toLowerCase()).toContain("x-app: kept");
  expect(head).not.toMatch(/bht_secret|Proxy-Auth|of-the-host|forged/i);
  expect(head).toMatch(/X-Forwarded-For: 127\.0\.0\.1\r\n/);
  expect(head).toContain(`X-Forwarded-Host: ${new URL(lab.url).host}\r\n`);
  expect(head).toContain(`X-Forwarded-Prefix: ${at}\r\n`);
  expect(head).toMatch(/Host: localhost:\d+\r\n/);
  const dots = await raw(`GET ${at}/a/../../../me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  expect(dots).toContain("200 OK");
  expect(got.at(-1)).toStartWith("GET /a/../../../me HTTP/1.1");
});

test("lengths, HEAD, statuses without a body and trailers arrive as sent", async () => {
  const length = await service("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
  const whole = await raw(`GET ${length.at}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  expect(whole).toMatch(/\r\ncontent-length: 5\r\n/i);
  expect(whole).not.toMatch(/transfer-encoding/i);
  const head = await service("HTTP/1.1 200 OK\r\nContent-Length: 123456\r\nETag: x\r\n\r\n");
  const headed = await raw(`HEAD ${head.at}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  expect(headed).toMatch(/\r\ncontent-length: 123456\r\n/i);
  expect(headed).toEndWith("\r\n\r\n");
  for (const line of ["204 No Content", "304 Not Modified"]) {
    const { at } = await service(`HTTP/1.1 ${line}\r\nx-a: b\r\n\r\n`);
    expect(await raw(`GET ${at}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)).toStartWith(
      `HTTP/1.1 ${line}\r\n`,
    );
  }
  const trailers = await service(
    "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n",
  );
  const trailed = await raw(
    `GET ${trailers.at}/ HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: close\r\n\r\n`,
  );
  expect(trailed).toMatch(/\r\ntrailer: x-sum\r\n/i);
  expect(trailed).toEndWith("2\r\nhi\r\n0\r\nX-Sum: 42\r\n\r\n");
});

test("server-sent events and an answer before the end of the request pass at once", async () => {
  let send = (_text: string) => {};
  const { at } = await service((socket) => {
    socket.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    send = (text) => socket.write(text);
  });
  const answer = await fetch(`${lab.url}${at}/`, { signal: gone.signal });
  const reader = answer.body!.getReader();
  for (const event of ["data: 1\n\n", "data: 2\n\n"]) {
    send(event);
    expect(Buffer.from((await reader.read()).value!).toString()).toBe(event);
  }
  await reader.cancel();

  const early = await service((socket) => {
    socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    socket.on("data", (data) => {
      if (data.includes("second")) socket.write("4\r\nseen\r\n0\r\n\r\n");
    });
  });
  const { hostname, port } = new URL(lab.url);
  const socket = dial({ host: hostname, port: Number(port) });
  let heard = "";
  socket.on("data", (data) => {
    heard += data.toString();
  });
  socket.write(`POST ${early.at}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n`);
  await until(() => heard.includes("200 OK"));
  socket.write("6\r\nsecond\r\n");
  await until(() => heard.includes("seen"));
  socket.destroy();
});

test("WebSocket: both ways, binary, and its end; other upgrades too", async () => {
  const server = Bun.serve({
    port: 0,
    fetch: (request, server) =>
      server.upgrade(request, { headers: { "x-cookie": request.headers.get("cookie") ?? "none" } })
        ? undefined
        : new Response("no", { status: 400 }),
    websocket: {
      message(socket, text) {
        socket.send(text);
        if (text === "bye") socket.close(4001, "done");
      },
    },
  });
  closers.push(() => void server.stop(true));
  const socket = new WebSocket(`${lab.url.replace("http", "ws")}/sandboxes/dev/proxy/${server.port}/live`, {
    headers: { authorization: "Bearer bht_secret", cookie: "a=b" },
  } as never);
  socket.binaryType = "arraybuffer";
  const heard: unknown[] = [];
  const closed = new Promise<CloseEvent>((resolve) => socket.addEventListener("close", resolve));
  socket.addEventListener("message", ({ data }) =>
    heard.push(typeof data === "string" ? data : data.byteLength),
  );
  await new Promise((resolve) => socket.addEventListener("open", resolve));
  socket.send("hello");
  socket.send(new Uint8Array(300_000));
  socket.send("bye");
  expect((await closed).code).toBe(4001);
  expect(heard).toEqual(["hello", 300_000, "bye"]);
  await until(() => lab.ended.at(-1)!.status === 101);
  expect(lab.ended.at(-1)!.in).toBeGreaterThan(300_000);
  expect(lab.ended.at(-1)!.out).toBeGreaterThan(300_000);

  const other = await service((socket) => {
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: mine\r\n\r\nfirst");
    socket.on("data", (data) => socket.end(`got ${data}`));
  });
  const { hostname, port } = new URL(lab.url);
  const plain = dial({ host: hostname, port: Number(port) });
  let said = "";
  plain.on("data", (data) => {
    said += data.toString();
  });
  plain.write(`GET ${other.at}/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: mine\r\n\r\n`);
  await until(() => said.includes("first"));
  plain.write("more");
  await until(() => said.includes("got more"));
  plain.destroy();
});

test("the four ways in which there is no answer, each with its code; a lie about the length is no whole answer", async () => {
  const code = async (path: string) => {
    const answer = await fetch(lab.url + path);
    const body = (await answer.json()) as { code: string; error: string; remedy: string };
    expect(body.remedy).toBe("bhatti ports dev shows what listens there");
    return [answer.status, body.code];
  };
  expect(await code("/sandboxes/dev/proxy/1/")).toEqual([502, "nothing_listens"]);
  expect(await code((await service((socket) => socket.destroy())).at)).toEqual([502, "closed_early"]);
  expect(await code((await service((socket) => socket.end())).at)).toEqual([502, "closed_early"]);
  for (const text of [
    "SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    `HTTP/1.1 200 OK\r\nx-a: ${"a".repeat(100_000)}\r\n\r\n`,
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
  ])
    expect([text.slice(0, 60), ...(await code((await service(text)).at))]).toEqual([
      text.slice(0, 60),
      502,
      "bad_answer",
    ]);
  const short = await service("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort");
  await expect(fetch(lab.url + short.at).then((answer) => answer.text())).rejects.toThrow();
});

test("a sandbox that goes: the reason before the answer began, a cut after it", async () => {
  const end = new AbortController();
  const own = await edgeLab({ revoked: end.signal });
  try {
    const mute = await service(() => {});
    const half = await service((socket) =>
      socket.write("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
    );
    const waiting = fetch(own.url + mute.at);
    const begun = await fetch(own.url + half.at);
    await until(() => mute.got.length === 1);
    end.abort(new AppError("not_found", 'sandbox "dev" not found'));
    const answer = await waiting;
    expect([answer.status, await answer.json()]).toEqual([
      404,
      { error: 'sandbox "dev" not found', code: "not_found" },
    ]);
    await expect(begun.text()).rejects.toThrow();
    await until(() => mute.sockets.size === 0 && half.sockets.size === 0);
  } finally {
    await own.stop();
  }
});

test("a client that leaves ends the service's connection, before and in the middle of the answer", async () => {
  const mute = await service(() => {});
  const endless = await service((socket) => {
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    const timer = setInterval(() => socket.write("x".repeat(1000)), 5);
    socket.on("close", () => clearInterval(timer));
  });
  for (const { at, sockets } of [mute, endless]) {
    const leave = new AbortController();
    const asked = fetch(lab.url + at, { signal: leave.signal });
    await until(() => sockets.size === 1);
    await Bun.sleep(30);
    leave.abort();
    await asked.catch(() => {});
    await until(() => sockets.size === 0);
  }
});

test("redirects and cookies stay below the path", async () => {
  const head = (lines: string) => `HTTP/1.1 302 Found\r\n${lines}content-length: 0\r\n\r\n`;
  const location = async (to: (at: string) => string) => {
    const { at, server } = await service((socket, text) =>
      socket.end(head(`Location: ${to(/Prefix: (\S+)/.exec(text)![1]!)}\r\n`)),
    );
    const answer = await fetch(`${lab.url}${at}/x`, { redirect: "manual" });
    return answer.headers
      .get("location")!
      .replace(at, "PREFIX")
      .replace(String((server.address() as { port: number }).port), "PORT");
  };
  expect(await location(() => "/login?a=%2F")).toBe("PREFIX/login?a=%2F");
  expect(await location(() => "next")).toBe("next");
  expect(await location((prefix) => `${prefix}/there`)).toBe("PREFIX/there");
  expect(await location(() => "https://example.com/x")).toBe("https://example.com/x");
  expect(await location(() => "//example.com/x")).toBe("//example.com/x");
  expect(await location((prefix) => `http://localhost:${prefix.split("/").at(-1)}/in?x#y`)).toBe(
    "PREFIX/in?x#y",
  );

  const jar = await service(
    "HTTP/1.1 200 OK\r\nSet-Cookie: sid=1; Path=/app; Domain=example.com; HttpOnly\r\nSet-Cookie: b=2\r\nStrict-Transport-Security: max-age=1\r\nService-Worker-Allowed: /\r\ncontent-length: 0\r\n\r\n",
  );
  const answer = await fetch(`${lab.url}${jar.at}/`);
  const set = answer.headers.getSetCookie();
  expect(set[0]).toMatch(/^bhatti-[0-9a-f]{12}-sid=1; HttpOnly; Path=\/sandboxes\/dev\/proxy\/\d+\/app$/);
  expect(set[1]).toMatch(/^bhatti-[0-9a-f]{12}-b=2; Path=\/sandboxes\/dev\/proxy\/\d+\/$/);
  expect(answer.headers.get("strict-transport-security")).toBeNull();
  expect(answer.headers.get("service-worker-allowed")).toBeNull();
  await fetch(`${lab.url}${jar.at}/`, { headers: { cookie: `${set[0]!.split(";")[0]}; other=x` } });
  expect(jar.got.at(-1)).toContain("\r\nCookie: sid=1\r\n");
});

test("one request is one request, whatever stands in it", async () => {
  const { at, got } = await service("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  const inner = `GET ${at}/smuggled HTTP/1.1\r\nhost: x\r\n\r\n`;
  const head = `POST ${at}/ HTTP/1.1\r\nhost: x\r\n`;
  for (const bytes of [
    `${head}content-length: ${inner.length + 5}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${inner}`,
    `${head}content-length: 0\r\ncontent-length: ${inner.length}\r\n\r\n${inner}`,
    `${head}content-length: +0\r\n\r\n${inner}`,
    `${head}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n${inner}`,
    `${head}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n${inner}`,
    `${head}content-length : ${inner.length}\r\n\r\n${inner}`,
    `${head}x: y\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n${inner}`,
    `${head}transfer-encoding: chunked\r\n\r\nffffffffffffffff1\r\n${inner}`,
    `POST ${at}/x\x00y HTTP/1.1\r\nhost: x\r\n\r\n`,
    `POST ${at}/ HTTP/1.1\r\nhost: x\r\nx-a: b\x00c\r\n\r\n`,
  ])
    await raw(bytes, 500);
  for (const text of got) {
    // What looks like a second request is the body of a first one, or nothing.
    const [, ...rest] = text.split("\r\n\r\n");
    expect(rest.join("\r\n\r\n")).not.toStartWith("GET ");
    expect(text.match(/^(content-length|transfer-encoding):/gim)?.length ?? 0).toBeLessThan(2);
    expect(text).not.toStartWith("GET /smuggled");
  }
  // The twin: honest bytes arrive, and two honest requests are two.
  const count = got.length;
  await raw(`${head}content-length: 5\r\n\r\nhello${inner}`, 500);
  expect(got.length).toBe(count + 2);
  expect(got.at(-2)).toEndWith("\r\n\r\nhello");
  expect(got.at(-1)).toStartWith("GET /smuggled");
});

test("a body that nobody reads does not spoil what follows on its connection", async () => {
  const own = await edgeLab({
    begin: async () => Response.json({ error: "no", code: "forbidden" }, { status: 403 }),
  });
  try {
    const { hostname, port } = new URL(own.url);
    const socket = dial({ host: hostname, port: Number(port) });
    let said = "";
    socket.on("data", (data) => {
      said += data.toString();
    });
    const answers = () => said.match(/HTTP\/1\.1 403/g)?.length ?? 0;
    for (let i = 1; i <= 200; i++) {
      socket.write("POST /sandboxes/dev/proxy/80/ HTTP/1.1\r\nhost: x\r\ncontent-length: 30000\r\n\r\n");
      if (i % 2) await new Promise((resolve) => setImmediate(resolve));
      socket.write("x".repeat(30_000));
      await until(() => answers() === i);
    }
    socket.destroy();
  } finally {
    await own.stop();
  }
}, 30_000);

test("a path that is spelt otherwise reaches no guest", async () => {
  for (const path of [
    "/sandboxes/dev/./proxy/80/",
    "/sandboxes//dev/proxy/80/",
    "/x/../sandboxes/dev/proxy/80/",
  ])
    expect(await raw(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`)).toContain("api /");
});

test("upload and download stream, slow readers slow the service down", async () => {
  const MIB = 1 << 20;
  let received = 0;
  const server = Bun.serve({
    port: 0,
    maxRequestBodySize: 2 ** 40,
    async fetch(request) {
      if (request.method === "GET") {
        let left = 256;
        return new Response(
          new ReadableStream({
            pull(controller) {
              if (left-- > 0) controller.enqueue(new Uint8Array(MIB));
              else controller.close();
            },
          }),
        );
      }
      for await (const chunk of request.body!) received += chunk.length;
      return new Response(String(received));
    },
  });
  closers.push(() => void server.stop(true));
  const rss = async (pid: number) =>
    Number((await Bun.file(`/proc/${pid}/status`).text()).match(/^VmRSS:\s+(\d+)/m)![1]) / 1024;
  const before = await rss(lab.edge.pid!);
  const at = `${lab.url}/sandboxes/dev/proxy/${server.port}/`;
  const bytes = Bun.spawn(["head", "-c", String(256 * MIB), "/dev/zero"], { stdout: "pipe" });
  const up = Bun.spawn(["curl", "-sS", "-T", "-", "-X", "POST", at], { stdin: bytes.stdout, stdout: "pipe" });
  expect(await new Response(up.stdout).text()).toBe(String(256 * MIB));
  const down = Bun.spawn(["curl", "-sS", at], { stdout: "pipe" });
  let came = 0;
  for await (const chunk of down.stdout) came += chunk.length;
  expect(came).toBe(256 * MIB);
  expect((await rss(lab.edge.pid!)) - before).toBeLessThan(40);
}, 60_000);

test("an edge that is killed comes back at the same address", async () => {
  const own = await edgeLab({ api });
  try {
    const first = own.edge.pid!;
    process.kill(first, "SIGKILL");
    await until(() => own.edge.pid !== null && own.edge.pid !== first);
    expect(await (await fetch(`${own.url}/peer`)).text()).toContain("127.0.0.1");
  } finally {
    await own.stop();
  }
});

test("it is nobody: no root, no privilege to gain, no file system", async () => {
  if (process.getuid?.() !== 0) return;
  const status = await Bun.file(`/proc/${lab.edge.pid}/status`).text();
  expect(status).toMatch(/^Uid:\s+265000\s+265000\s+265000\s+265000$/m);
  expect(status).toMatch(/^Groups:\s*$/m);
  expect(status).toMatch(/^CapEff:\s+0+$/m);
  expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
  const root = readlinkSync(`/proc/${lab.edge.pid}/root`);
  expect(root).toContain("/edge");
});
