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

test("one owner has its share, the others find a place; theirs are given in order", async () => {
  const places = new Semaphore(3, 2);
  const greedy = [await places.acquire(undefined, "a"), await places.acquire(undefined, "a")];
  const order: string[] = [];
  const waits = (owner: string) =>
    places.acquire(undefined, owner).then((release) => {
      order.push(owner);
      return release;
    });
  const third = waits("a");
  const other = waits("b");
  await Bun.sleep(5);
  expect(order).toEqual(["b"]);
  (await other)();
  await Bun.sleep(5);
  expect(order).toEqual(["b"]);
  greedy[0]!();
  (await third)();
  greedy[1]!();
  expect(order).toEqual(["b", "a"]);
  const all = await Promise.all([places.acquire(), places.acquire(), places.acquire()]);
  expect(places.tryAcquire()).toBeNull();
  for (const release of all) release();
});
