import { expect, test } from "bun:test";
import { padded } from "./initramfs.ts";

test("the last page of an initramfs is left to the tables of the firmware, whatever the size of the archive", () => {
  for (const size of [512, 3584, 4096, 4608, 8192 - 512]) {
    const image = padded(new Uint8Array(size).fill(7));
    expect(image.length % 4096).toBe(4);
    expect(image.subarray(0, size).every((byte) => byte === 7)).toBe(true);
    expect(image.subarray(size).every((byte) => byte === 0)).toBe(true);
  }
});
