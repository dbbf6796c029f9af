/** What the agent reports, as people read it: the thing by its name, and what to do. */
import { expect, test } from "bun:test";
import { type About, guestErrorToApp } from "./errors.ts";
import { GuestError } from "./guest.ts";

const file: About = { sandbox: "dev", path: "/a b/c" };
const command: About = { sandbox: "dev", cwd: "/etc/passwd" };

test.each([
  [
    "not_found",
    "",
    file,
    404,
    `no such file or directory in sandbox "dev": '/a b/c'`,
    "bhatti file ls dev '/a b' shows",
  ],
  [
    "is_a_directory",
    "",
    file,
    400,
    `'/a b/c' is a directory in sandbox "dev"`,
    "bhatti file ls dev '/a b/c'",
  ],
  ["not_a_directory", "", file, 400, "leads through a file", "bhatti file stat dev '/a b'"],
  [
    "permission",
    "open: permission denied",
    file,
    403,
    "permission denied by the guest",
    "bhatti exec -u root dev",
  ],
  ["permission", "open: read-only file system", file, 403, "on a read-only file system", "findmnt"],
  ["no_space", "", file, 507, 'the disk of sandbox "dev" is full', "df -h"],
  [
    "not_found",
    "working directory: stat",
    command,
    404,
    "working directory /etc/passwd does not exist",
    "mkdir -p /etc/passwd",
  ],
  [
    "not_a_directory",
    "working directory",
    command,
    400,
    "working directory /etc/passwd is not a directory",
    "name a directory",
  ],
  ["permission", "working directory: denied", command, 403, "closed to user lohar", "-u root -w /etc/passwd"],
  ["too_large", "", command, 413, "too long for Linux", "stdin or as a file"],
  ["busy", "copying", command, 503, 'sandbox "dev" is about to be copied', "again in a moment"],
  [
    "not_found",
    "open /x/y",
    { ...command, outputFile: "/x/y" },
    404,
    "no such file or directory",
    "file ls dev /x shows",
  ],
  [
    "lost",
    "",
    command,
    500,
    'the agent of sandbox "dev" cannot be reached',
    "bhatti restart dev boots it from its disk",
  ],
] as [string, string, About, number, string, string][])(
  "%s %s of %j",
  (code, said, about, status, message, remedy) => {
    const error = guestErrorToApp(new GuestError(code, said), about);
    expect(error.status).toBe(status);
    expect(error.message).toContain(message);
    expect(error.remedy).toContain(remedy);
  },
);

test.each([
  [
    "configure_failed",
    "identity: open /etc/hosts: input/output error",
    "guest_failed",
    /identity: open .etc.hosts/,
  ],
  ["guest_unresponsive", "the guest's agent has been silent for 25 s", "guest_unresponsive", /25 s/],
  ["io", "write /data/x: input/output error", "guest_failed", /^write .data.x: input/],
  ["impostor", "", "guest_failed", /port 1024/],
  ["internal", "secret detail", "guest_failed", /agent of the sandbox failed$/],
  ["permission", "open /root/x: permission denied", "forbidden", /root.x/],
])("%s says what a person can use", (code, message, expected, text) => {
  const error = guestErrorToApp(new GuestError(code, message));
  expect(error.code).toBe(expected as never);
  expect(error.message).toMatch(text);
});
