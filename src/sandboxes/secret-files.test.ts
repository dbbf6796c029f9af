/** When files of secrets are brought to a guest, and that nothing that changes meanwhile is missed. */
import { expect, test } from "bun:test";
import { GuestError } from "../guest/guest.ts";
import type { SecretRef } from "../secrets/reference.ts";
import { SecretFiles } from "./secret-files.ts";

/** A guest that holds calls back until `gate` opens, over secrets that are a map. */
function lab(refs: SecretRef[]) {
  const values = new Map([["A", "one"]]);
  const calls: string[][] = [];
  let version = 0;
  let gate: Promise<void> = Promise.resolve();
  let answer: () => string[] = () => [];
  const row = { name: "box", created_by: "u", secrets: JSON.stringify(refs), agent_generation: 3 };
  const guest = {
    async secrets(_generation: number, files: { content: string }[]) {
      await gate;
      calls.push(files.map(({ content }) => content));
      return answer();
    },
  };
  const secrets = {
    version: () => version,
    files: async (_user: string, list: SecretRef[]) =>
      list
        .filter(({ name, path }) => path !== undefined && values.has(name))
        .map(({ name, path }) => ({ path: path!, content: values.get(name)!, mode: "0400", owner: "" })),
  };
  const actor = { row, guest: guest as unknown, deps: { secrets } };
  return {
    actor,
    row,
    calls,
    files: new SecretFiles(actor as unknown as ConstructorParameters<typeof SecretFiles>[0]),
    set(name: string, value: string) {
      values.set(name, value);
      version++;
    },
    hold() {
      const { promise, resolve } = Promise.withResolvers<void>();
      gate = promise;
      return resolve;
    },
    answers(what: () => string[]) {
      answer = what;
    },
  };
}

const FILE: SecretRef = { name: "A", path: "/a" };

test("only what has files is asked, once for each change, whoever waits", async () => {
  const none = lab([{ name: "A", env: "A" }]);
  none.set("A", "two");
  await none.files.fresh();
  expect(none.calls).toEqual([]);
  const one = lab([FILE]);
  one.files.took(await one.files.delivery(true), []);
  await one.files.fresh();
  expect(one.calls).toEqual([]);
  one.set("A", "two");
  await Promise.all([one.files.fresh(), one.files.fresh(), one.files.fresh()]);
  await one.files.fresh();
  expect(one.calls).toEqual([["two"]]);
});

test("a change while one is under way is brought along, too", async () => {
  const box = lab([FILE]);
  const open = box.hold();
  const done = box.files.fresh();
  await Bun.sleep(0);
  box.set("A", "two");
  open();
  await done;
  expect(box.calls).toEqual([["one"], ["two"]]);
  // The same for what it is given.
  const again = box.hold();
  box.set("A", "three");
  const more = box.files.fresh();
  await Bun.sleep(0);
  box.row.secrets = "[]";
  box.files.changed();
  again();
  await more;
  expect(box.calls.slice(2)).toEqual([["three"], []]);
  // Nothing is there any more: nothing is asked.
  box.set("A", "four");
  await box.files.fresh();
  expect(box.calls).toHaveLength(4);
});

test("problems are told until they are gone; an agent from before says what helps; other failures are failures", async () => {
  const box = lab([FILE]);
  box.answers(() => ["/a is there already"]);
  await box.files.fresh();
  expect(box.files.problems).toEqual(["/a is there already"]);
  const delivery = await box.files.delivery(true);
  expect(() => box.files.mustTake(delivery, ["/a is there already"])).toThrow(
    "secret file /a is there already",
  );
  box.answers(() => {
    throw new GuestError("bad_request", "unknown op");
  });
  box.set("A", "two");
  await box.files.fresh();
  expect(box.files.problems).toEqual(["files need a newer agent: bhatti restart box"]);
  box.answers(() => {
    throw new GuestError("lost", "gone");
  });
  box.set("A", "three");
  await expect(box.files.fresh()).rejects.toThrow("gone");
  box.answers(() => []);
  await box.files.fresh();
  expect([box.files.problems, box.calls.at(-1)]).toEqual([[], ["three"]]);
});

test("a guest that is not there is not waited for", async () => {
  const box = lab([FILE]);
  box.actor.guest = null;
  await box.files.fresh();
  expect(box.calls).toEqual([]);
});
