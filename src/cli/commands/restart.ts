import { connect } from "../base/context.ts";
import { clean } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";
import { confirm } from "../base/prompt.ts";
import { each, type Selection, selectable, targets } from "./targets.ts";

export const command = () =>
  selectable(
    define(
      "restart [sandboxes...]",
      `Shut sandboxes down and boot them from their disks, whatever state they are in. What was only in memory is gone:
running processes, /tmp. A guest that does not answer is switched off.`,
      ["bhatti restart dev", "bhatti restart dev --force", "bhatti restart --label team=web --yes"],
    )
      .option("--force", "do not ask the guest: as if the power was cut")
      .option("-y, --yes", "do not ask before several are restarted"),
  ).action(async (names: string[], _flags, self) => {
    const flags = options<Selection & { force?: boolean; yes?: boolean }>(self);
    const client = connect(flags);
    const list = await targets(client, names, flags);
    if (list.length > 1)
      await confirm(`Restart ${list.length} sandboxes, and lose what is only in their memory?`, flags.yes);
    await each(
      list,
      names.length !== 1,
      (name) => withSpinner(`restarting ${clean(name)}`, () => client.sandboxes.restart(name, flags.force)),
      (name) => `sandbox/${clean(name)} restarted`,
    );
  });
