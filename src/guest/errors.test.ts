import { expect, test } from "bun:test";
import { guestErrorToApp } from "./errors.ts";
import { GuestError } from "./guest.ts";

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
  ["internal", "secret detail", "guest_failed", /agent failed$/],
  ["permission", "open /root/x: permission denied", "forbidden", /root.x/],
])("%s says what a person can use", (code, message, expected, text) => {
  const error = guestErrorToApp(new GuestError(code, message));
  expect(error.code).toBe(expected as never);
  expect(error.message).toMatch(text);
});
