import { connect } from "../base/context.ts";
import { clean } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";
import { each, type Selection, selectable, targets } from "./targets.ts";

export const command = () =>
  selectable(
    define("start [sandboxes...]", "Wake sandboxes. Any other use wakes them as well.", [
      "bhatti start dev",
      "bhatti start dev --force",
      "bhatti start --all",
    ]).option(
      "--force",
      "when its memory cannot be restored, or it does not answer: give memory up and boot from the disk",
    ),
  ).action(async (names: string[], _flags, self) => {
    const flags = options<Selection & { force?: boolean }>(self);
    const client = connect(flags);
    const list = await targets(client, names, flags);
    await each(
      list,
      names.length !== 1,
      (name) => withSpinner(`starting ${clean(name)}`, () => client.sandboxes.start(name, flags.force)),
      (name, s) => `sandbox/${clean(name)} ${s.already_running ? "was running already" : "started"}`,
    );
  });
