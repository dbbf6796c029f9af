import { expect, test } from "bun:test";
import { Semaphore } from "./semaphore.ts";

test("places are given in order, given back once, and one who leaves the queue takes none", async () => {
  const places = new Semaphore(1);
  const first = await places.acquire();
  const leave = new AbortController();
  const gone = places.acquire(leave.signal);
  const order: string[] = [];
  const second = places.acquire().then((release) => {
    order.push("second");
    return release;
  });
  leave.abort(new Error("left"));
  expect(gone).rejects.toThrow("left");
  first();
  first();
  const release = await second;
  const third = places.acquire().then(() => order.push("third"));
  await Bun.sleep(5);
  expect(order).toEqual(["second"]);
  release();
  await third;
  expect(places.tryAcquire()).toBeNull();
  expect(places.acquire(AbortSignal.abort(new Error("late")))).rejects.toThrow("late");
});
