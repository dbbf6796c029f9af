import { expect, test } from "bun:test";
import { AppError } from "../lib/errors.ts";
import { macOf, Names } from "./names.ts";
import { Slots } from "./slots.ts";

const owner = { userId: "u", subnetIndex: 7 };

test("subnets are distinct over the whole range and names fit into an interface name", () => {
  const names = new Names("abcd");
  const seen = new Set<string>();
  for (let index = 1; index <= 65_024; index++) {
    seen.add(names.subnet(index));
    expect(names.bridge(index).length).toBeLessThanOrEqual(15);
  }
  expect(seen.size).toBe(65_024);
  const plain = new Names();
  expect([1, 254, 255, 256, 509, 510].map(plain.gateway)).toEqual([
    "10.0.1.1",
    "10.0.254.1",
    "10.1.0.1",
    "10.1.1.1",
    "10.1.254.1",
    "10.2.0.1",
  ]);
  expect(() => plain.subnet(0)).toThrow(RangeError);
  expect(plain.uid(3)).toBe(200_003);
});

test("names are ours only with our prefix and a number", () => {
  const names = new Names();
  expect(names.slotOfNetns("bh12")).toBe(12);
  for (const foreign of ["bh", "bhx", "bh012", "bhb1", "bhatti", "cbh1"])
    expect(names.slotOfNetns(foreign)).toBeNull();
  expect(names.slotOfVeth("bhv3")).toBe(3);
  expect(names.indexOfBridge("bhb65024")).toBe(65_024);
  expect(macOf("10.0.1.254")).toBe("02:61:0a:00:01:fe");
});

test("253 addresses, lowest first; then a refusal that costs no slot", () => {
  const slots = new Slots(new Names());
  const all = Array.from({ length: 253 }, () => slots.plan(owner, undefined));
  expect(all[0]?.address).toBe("10.0.7.2");
  expect(all[252]?.address).toBe("10.0.7.254");
  expect(() => slots.plan(owner, undefined)).toThrow(AppError);
  expect(slots.plan({ userId: "v", subnetIndex: 8 }, undefined).slot).toBe(254);
  slots.freeAddress(owner, all[10]!);
  slots.freeSlot(all[10]!.slot);
  expect(slots.plan(owner, undefined)).toEqual(all[10]!);
});
