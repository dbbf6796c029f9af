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

const settled = async (promise: Promise<unknown>) =>
  (await Promise.race([promise.then(() => true), Bun.sleep(5).then(() => false)])) as boolean;

test("two owners together do not keep a third one out; who has no place comes before who has some", async () => {
  const places = new Semaphore(8, 6);
  const take = (owner: string, count: number) =>
    Array.from({ length: count }, () => places.acquire(undefined, owner));
  const a = take("a", 8);
  const b = take("b", 8);
  expect(await Promise.all([...a, ...b].map(settled))).toEqual([
    ...[true, true, true, true, true, true, false, false],
    ...[true, false, false, false, false, false, false, false],
  ]);
  const c = take("c", 2);
  expect(await Promise.all(c.map(settled))).toEqual([true, false]);
  // All are taken. A fourth one is behind the others, and has nothing yet: the next place is its own.
  const [d] = take("d", 1);
  expect(await settled(d!)).toBe(false);
  (await a[0]!)();
  expect(await settled(d!)).toBe(true);
  expect(await settled(a[6]!)).toBe(false);
  // All who wait have a place already: the last one stays free for one who has none.
  (await d!)();
  expect([await settled(a[6]!), await settled(b[1]!)]).toEqual([false, false]);
  (await c[0]!)();
  expect(await settled(c[1]!)).toBe(true);
  (await b[0]!)();
  expect([await settled(a[6]!), await settled(b[1]!)]).toEqual([false, true]);
});

test("places that are few leave somebody something all the same", async () => {
  for (const limit of [1, 2, 3]) {
    const places = new Semaphore(limit, Math.max(1, Math.floor(limit * 0.75)));
    const releases = await Promise.all(
      Array.from({ length: limit }, (_, i) => places.acquire(undefined, `owner-${i}`)),
    );
    const next = [places.acquire(undefined, "owner-0"), places.acquire(undefined, "late")];
    for (const release of releases) release();
    for (const one of next) (await one)();
    expect(places.queued).toBe(0);
  }
});
