import { expect, test } from "bun:test";
import type { GuestEntry } from "../../client/files.ts";
import { guestPath, line } from "./guest-names.ts";

test("arguments that are not UTF-8 reach the server as they are", () => {
  const raw = Buffer.concat([Buffer.from("bhatti\0file\0read\0dev\0/tmp/"), Buffer.from([0xff, 0x41, 0])]);
  const argument = Buffer.from([0x2f, 0x74, 0x6d, 0x70, 0x2f, 0xff, 0x41]);
  const path = guestPath(argument.toString(), () => raw);
  expect(path).toBe(`base64:${argument.toString("base64")}`);
  expect(guestPath("/tmp/ä", () => raw)).toBe("/tmp/ä");
  // The replacement character itself is a character like any other.
  expect(guestPath("/tmp/\ufffd", () => Buffer.from("x\0/tmp/\ufffd\0"))).toBe("/tmp/\ufffd");
});

test("kinds, targets and odd names are shown", () => {
  const entry: GuestEntry = {
    name: "n",
    kind: "file",
    size: 3,
    mode: "0644",
    uid: 0,
    gid: 0,
    links: 1,
    is_dir: false,
    mtime: 0,
  };
  const b64 = (...bytes: number[]) => Buffer.from(bytes).toString("base64");
  expect(line(entry)).toBe("-0644        3 n");
  expect(line({ ...entry, kind: "dir", is_dir: true })).toBe("d0644        3 n");
  expect(line({ ...entry, kind: "symlink", target: "a\nb" })).toBe("l0644        3 n -> a\\x0ab");
  // A newline and what looks like one are told apart.
  expect(line({ ...entry, name: "a\nb" })).toEndWith(" a\\x0ab");
  expect(line({ ...entry, name: "a\\x0ab" })).toEndWith(" a\\\\x0ab");
  expect(line({ ...entry, name: "\ufffd\\n", name_b64: b64(0xff, 0x5c, 0x6e) })).toEndWith(" \\xff\\\\n");
  expect(line({ ...entry, kind: "char_device", device: "1:3" })).toBe("c0644      1:3 n");
  expect(line({ ...entry, kind: "fifo", name: "\ufffdA", name_b64: b64(0xff, 0x41, 0x1b) })).toBe(
    "p0644        3 \\xffA\\x1b",
  );
});
