import { expect, test } from "bun:test";
import { begun } from "./begun.ts";

const failing = (after: number) => {
  let sent = 0;
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent++ === after) throw new Error("no more");
      controller.enqueue(new Uint8Array([sent]));
    },
  });
};

test("what fails before the first byte throws; later it cuts the stream", async () => {
  expect(begun(failing(0))).rejects.toThrow("no more");
  const body = await begun(failing(2));
  const reader = body.getReader();
  expect([await reader.read(), await reader.read()].map(({ value }) => value?.[0])).toEqual([1, 2]);
  expect(reader.read()).rejects.toThrow("no more");
});

test("nothing stays nothing, and who leaves is told to the source", async () => {
  const empty = new ReadableStream<Uint8Array>({ start: (controller) => controller.close() });
  expect((await new Response(await begun(empty)).arrayBuffer()).byteLength).toBe(0);
  let why: unknown;
  const endless = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(new Uint8Array(10)),
    cancel(reason) {
      why = reason;
    },
  });
  await (await begun(endless)).cancel("enough");
  expect(why).toBe("enough");
});
