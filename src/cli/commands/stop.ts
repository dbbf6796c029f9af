import { connect } from "../base/context.ts";
import { clean } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";
import { each, type Selection, selectable, targets } from "./targets.ts";

export const command = () =>
  selectable(
    define(
      "stop [sandboxes...]",
      "Put sandboxes to sleep: memory and devices go to disk, the next use goes on from there.",
      ["bhatti stop dev", "bhatti stop dev ci --sync", "bhatti stop --label team=web"],
    ).option("--sync", "return only when it would survive a power cut"),
  ).action(async (names: string[], _flags, self) => {
    const flags = options<Selection & { sync?: boolean }>(self);
    const client = connect(flags);
    const list = await targets(client, names, flags);
    await each(
      list,
      names.length !== 1,
      (name) => withSpinner(`stopping ${clean(name)}`, () => client.sandboxes.stop(name, flags.sync)),
      (name) => `sandbox/${clean(name)} stopped`,
    );
  });
