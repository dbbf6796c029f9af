/** Who may have how much disk, also when several ask at the same moment. */
import { expect, test } from "bun:test";
import { StorageQuota } from "./storage-quota.ts";

const MB = 1048576;
const ann = { id: "a", name: "ann" };

test("what is there and what is being made count together; a refusal tells both and what helps", () => {
  const held: Record<string, number> = { a: 30 * MB, b: 500 * MB };
  const quota = new StorageQuota(() => 100);
  quota.counts((id) => held[id] ?? 0);
  quota.counts(() => 20 * MB);
  const first = quota.take(ann, 40 * MB, "a sandbox");
  expect(quota.held("a")).toBe(90 * MB);
  expect(() => quota.take(ann, 11 * MB, "a snapshot")).toThrow(
    "storage limit reached: your sandboxes and snapshots hold 90 of 100 MB, a snapshot needs 11 MB",
  );
  try {
    quota.take(ann, 11 * MB, "a snapshot");
  } catch (error) {
    expect(error).toMatchObject({ code: "limit_reached", status: 429 });
    expect((error as { remedy: string }).remedy).toContain("bhatti user limits ann --max-storage");
  }
  quota.take(ann, 10 * MB, "exactly that").release();
  first.release();
  first.release();
  expect(quota.held("a")).toBe(50 * MB);
  // A promise that was kept is counted by its source.
  held.a = 70 * MB;
  expect(() => quota.take(ann, 11 * MB, "x")).toThrow("limit reached");
});

test("a limit that changes counts at once; 0 is none; nothing is left of owners who make nothing", () => {
  let limit = 10;
  const quota = new StorageQuota(() => limit);
  expect(() => quota.take(ann, 11 * MB, "x")).toThrow("limit reached");
  limit = 0;
  const room = quota.take(ann, 1e15, "x");
  limit = 20;
  expect(() => quota.take(ann, 1, "x")).toThrow("limit reached");
  room.release();
  quota.take(ann, 20 * MB, "x").release();
  expect((quota as unknown as { coming: Map<string, number> }).coming.size).toBe(0);
});
