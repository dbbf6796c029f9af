import { connect } from "../base/context.ts";
import { removeFromCache } from "../base/names-cache.ts";
import { clean, printJson, say } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";
import { confirm } from "../base/prompt.ts";
import { each, type Selection, selectable, targets } from "./targets.ts";

export const command = () =>
  selectable(
    define("destroy [sandboxes...]", "Delete sandboxes with everything in them. Named snapshots stay.", [
      "bhatti destroy dev",
      "bhatti destroy dev ci --yes",
      "bhatti destroy --label team=web --yes",
    ]).option("-y, --yes", "do not ask"),
  ).action(async (names: string[], _flags, self) => {
    const flags = options<Selection & { yes?: boolean }>(self);
    const client = connect(flags);
    const list = await targets(client, names, flags);
    if (list.length === 0) return void (printJson([]) || say("nothing to destroy"));
    const quoted = list.map((name) => `"${clean(name)}"`).join(", ");
    await confirm(
      list.length === 1 ? `Destroy sandbox ${quoted}?` : `Destroy ${list.length} sandboxes (${quoted})?`,
      flags.yes,
    );
    await each(
      list,
      names.length !== 1,
      async (name) => {
        const answer = await withSpinner(`destroying ${clean(name)}`, () => client.sandboxes.destroy(name));
        removeFromCache(client.endpoint.url, name);
        return names.length === 1 ? answer : { name, ...answer };
      },
      (name) => `sandbox/${clean(name)} destroyed`,
    );
  });
