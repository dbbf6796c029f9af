/** The service behind the proxy is hostile, and so may be who asks: one request is one request, one answer one answer. */
import { expect, test } from "bun:test";
import { parseResponse, serializeRequest } from "./http-tunnel.ts";

/** The answer as it is, in pieces of `size` bytes; `forever` repeats it without end. */
function guest(text: string, size = 1 << 16, forever = false): ReadableStream<Uint8Array> {
  const bytes = Buffer.from(text, "latin1");
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length && forever) at = 0;
      if (at >= bytes.length) return controller.close();
      controller.enqueue(new Uint8Array(bytes.subarray(at, at + size)));
      at += size;
    },
  });
}

async function read(text: string, size?: number, forever?: boolean) {
  const answer = await parseResponse(guest(text, size, forever), false);
  return {
    status: answer.status,
    headers: Object.fromEntries(answer.headers),
    body: answer.body ? await new Response(answer.body).text() : null,
  };
}

test("honest answers, whole and byte by byte", async () => {
  for (const size of [1, 7, 65536]) {
    expect(await read("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello", size)).toEqual({
      status: 200,
      headers: { "content-length": "5", "x-a": "b" },
      body: "hello",
    });
    expect(
      await read(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        size,
      ),
    ).toMatchObject({ body: "hello", headers: {} });
    expect(await read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\n\r\ngone", size)).toMatchObject(
      {
        status: 404,
        body: "gone",
      },
    );
  }
});

test("answers with two readings, or with none, are refused", async () => {
  const head = "HTTP/1.1 200 OK\r\n";
  for (const text of [
    "SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/1.1 101 Switching\r\n\r\n",
    `${head}content-length: 5\r\ncontent-length: 6\r\n\r\nhello!`,
    `${head}content-length: -1\r\n\r\n`,
    `${head}content-length: 0x5\r\n\r\nhello`,
    `${head}content-length: 10\r\n\r\nshort`,
    `${head}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
    `${head}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n`,
    `${head}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n`,
    `${head}transfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n`,
    `${head}transfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n`,
    `${head}no colon\r\n\r\n`,
    `${head}x-a: b\x00c\r\n\r\n`,
    `${head}x-a: ${"a".repeat(70_000)}\r\n\r\n`,
  ])
    await expect(read(text)).rejects.toThrow();
  // A length said twice the same is one length; chunks win over a length that contradicts them.
  expect((await read(`${head}content-length: 5\r\ncontent-length: 5\r\n\r\nhello`)).headers).toEqual({
    "content-length": "5",
  });
  expect(
    await read(`${head}content-length: 99\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n`),
  ).toMatchObject({ body: "hi", headers: {} });
});

test("answers without end: no head, or one interim answer after the other", async () => {
  await expect(read("x", 65536, true)).rejects.toThrow("bad gateway");
  await expect(read("HTTP/1.1 102 Processing\r\n\r\n", 65536, true)).rejects.toThrow("bad gateway");
});

test("the guest gets neither the key nor a second request", async () => {
  const request = new Request("http://api/x", {
    method: "POST",
    body: "0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
    headers: {
      authorization: "Bearer bht_secret",
      "proxy-authorization": "Basic x",
      connection: "keep-alive, x-hop",
      "x-hop": "1",
      te: "trailers",
      upgrade: "h2c",
      "x-forwarded-host": "forged",
      "x-app": "kept",
      "x-bytes": Buffer.from("é").toString("latin1"),
    },
  });
  const text = await new Response(serializeRequest(request, "/path?q=1", 8000, "192.0.2.1")).text();
  const [head = "", ...rest] = text.split("\r\n\r\n");
  expect(head.split("\r\n")[0]).toBe("POST /path?q=1 HTTP/1.1");
  expect(head).toContain("x-app: kept");
  expect(head).toContain("x-bytes: é");
  expect(head).toContain("x-forwarded-for: 192.0.2.1");
  expect(head.toLowerCase()).not.toMatch(/bht_secret|proxy-auth|x-hop|upgrade|\nte:|forged/);
  expect(head.match(/^(content-length|transfer-encoding):/gim)).toHaveLength(1);
  // The body's own blank lines are data in a chunk of known size.
  const body = rest.join("\r\n\r\n");
  expect(Number.parseInt(body, 16)).toBe("0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n".length);
  expect(body).toEndWith("\r\n0\r\n\r\n");
});

test("each byte a chunk: the pieces are put together, others run meanwhile, what is there is not held back", async () => {
  const head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
  const flood = Buffer.from(`${head}${"1\r\nx\r\n".repeat(5000)}2\r\nyz`);
  let more: ReadableStreamDefaultController<Uint8Array>;
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      more = controller;
      controller.enqueue(flood);
    },
  });
  let turns = 0;
  let counting = true;
  const count = () => {
    turns++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  const reader = (await parseResponse(stream, false)).body!.getReader();
  let text = "";
  let pieces = 0;
  while (text.length < 5002) {
    text += Buffer.from((await reader.read()).value!).toString();
    pieces++;
  }
  counting = false;
  expect(text).toBe(`${"x".repeat(5000)}yz`);
  expect(pieces).toBeLessThan(30);
  expect(turns).toBeGreaterThan(5);
  more!.enqueue(Buffer.from("\r\n0\r\n\r\n"));
  expect((await reader.read()).done).toBe(true);
});

test("what the guest names in Connection is of that connection alone; its length is not", async () => {
  const answer =
    "HTTP/1.1 200 OK\r\nconnection: x-hop, content-length\r\nx-hop: 1\r\nx-app: kept\r\ncontent-length: 2\r\n\r\nok";
  const { headers, body } = await parseResponse(new Blob([answer]).stream(), false);
  expect([headers.get("x-hop"), headers.get("x-app"), await new Response(body).text()]).toEqual([
    null,
    "kept",
    "ok",
  ]);
});
