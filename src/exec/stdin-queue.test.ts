import { expect, test } from "bun:test";
import { StdinQueue } from "./stdin-queue.ts";

const all = { take: () => true, give() {} };

test("bytes come out in order, credit is told as they are taken, the end ends", async () => {
  const told: number[] = [];
  const queue = new StdinQueue((taken) => told.push(taken), all);
  for (let i = 0; i < 8; i++) expect(queue.push(new Uint8Array(128 << 10).fill(i))).toBe(true);
  queue.end();
  const got = await new Response(queue.stream).bytes();
  expect(got.length).toBe(1 << 20);
  expect([got[0], got[got.length - 1]]).toEqual([0, 7]);
  expect(told).toEqual([1, 2, 3, 4].map((n) => n * (256 << 10)));
});

test("a sender that ignores the credit is refused before memory is", () => {
  const queue = new StdinQueue(() => {}, all);
  let pushed = 0;
  while (queue.push(new Uint8Array(1 << 20)) && pushed < 100) pushed++;
  expect(pushed).toBe(16);
});

test("what waits counts in the owner's share, and only while it waits", async () => {
  let held = 0;
  const share = {
    take: (bytes: number) => {
      const ok = held + bytes <= 300 << 10;
      if (ok) held += bytes;
      return ok;
    },
    give: (bytes: number) => {
      held -= bytes;
    },
  };
  const queue = new StdinQueue(() => {}, share);
  expect(queue.push(new Uint8Array(200 << 10))).toBe(true);
  expect(queue.push(new Uint8Array(200 << 10))).toBe(false);
  await queue.stream.getReader().read();
  expect(held).toBe(0);
  expect(queue.push(new Uint8Array(200 << 10))).toBe(true);
});

function lab() {
  const held = { bytes: 0 };
  const queue = new StdinQueue(() => {}, {
    take(bytes) {
      held.bytes += bytes;
      return true;
    },
    give(bytes) {
      held.bytes -= bytes;
    },
  });
  return { queue, held };
}

/** Number and bytes of the chunks that come out. */
async function drain(queue: StdinQueue): Promise<{ chunks: number; bytes: Buffer }> {
  const out: Uint8Array[] = [];
  for await (const chunk of queue.stream as unknown as AsyncIterable<Uint8Array>) out.push(chunk);
  return { chunks: out.length, bytes: Buffer.concat(out) };
}

test("a flood of empty and tiny messages is held as its bytes, not as so many objects", async () => {
  const { queue, held } = lab();
  for (let i = 0; i < 100_000; i++) {
    expect(queue.push(new Uint8Array(0))).toBe(true);
    expect(queue.push(new Uint8Array([i & 255]))).toBe(true);
  }
  expect(held.bytes).toBe(100_000);
  queue.end();
  const { chunks, bytes } = await drain(queue);
  expect(chunks).toBeLessThan(10);
  expect(bytes.length).toBe(100_000);
  expect(bytes.every((byte, i) => byte === (i & 255))).toBe(true);
  expect(held.bytes).toBe(0);
});

test("large and small ones keep their order, whoever is faster", async () => {
  const { queue } = lab();
  const sent: Uint8Array[] = [];
  const got = drain(queue);
  for (let i = 0; i < 400; i++) {
    const chunk = new Uint8Array((i * 977) % 9000).fill(i & 255);
    sent.push(chunk);
    queue.push(chunk);
    if (i % 7 === 0) await Bun.sleep(0);
  }
  queue.end();
  expect((await got).bytes.equals(Buffer.concat(sent))).toBe(true);
});
