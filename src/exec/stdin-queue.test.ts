import { expect, test } from "bun:test";
import { StdinQueue } from "./stdin-queue.ts";

test("bytes come out in order, credit is told as they are taken, the end ends", async () => {
  const told: number[] = [];
  const queue = new StdinQueue((taken) => told.push(taken));
  for (let i = 0; i < 8; i++) expect(queue.push(new Uint8Array(128 << 10).fill(i))).toBe(true);
  queue.end();
  const all = await new Response(queue.stream).bytes();
  expect(all.length).toBe(1 << 20);
  expect([all[0], all[all.length - 1]]).toEqual([0, 7]);
  expect(told).toEqual([1, 2, 3, 4].map((n) => n * (256 << 10)));
});

test("a sender that ignores the credit is refused before memory is", () => {
  const queue = new StdinQueue(() => {});
  let pushed = 0;
  while (queue.push(new Uint8Array(1 << 20)) && pushed < 100) pushed++;
  expect(pushed).toBe(16);
});
