import { expect, test } from "bun:test";
import type { GuestLease } from "../sandboxes/service.ts";
import { withSecrets } from "./request.ts";

const lease = (secretEnv: GuestLease["secretEnv"]) => {
  let released = 0;
  return {
    lease: { secretEnv, release: () => released++ } as unknown as GuestLease,
    released: () => released,
  };
};

test("a command has the sandbox's secrets below its own variables; without them it does not run", async () => {
  const given = lease(async () => ({ A: "secret", B: "secret" }));
  expect(await withSecrets(given.lease, { argv: ["x"], env: { B: "mine" } })).toEqual({
    argv: ["x"],
    env: { A: "secret", B: "mine" },
  });
  expect(given.released()).toBe(0);
  const broken = lease(async () => {
    throw new Error('decrypt secret "A" failed');
  });
  await expect(withSecrets(broken.lease, { argv: ["x"] })).rejects.toThrow("decrypt");
  expect(broken.released()).toBe(1);
});
