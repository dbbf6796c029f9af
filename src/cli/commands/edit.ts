import { connect } from "../base/context.ts";
import { usage } from "../base/errors.ts";
import { labels, secretsOf, span } from "../base/format.ts";
import { renameInCache } from "../base/names-cache.ts";
import { clean, fields, printJson, say } from "../base/output.ts";
import { collect, pairs, seconds, secretFiles, secretVariables } from "../base/parse.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";
import { onUnresponsive } from "./unresponsive.ts";

interface Flags {
  name?: string;
  keepHot?: boolean;
  allowCold?: boolean;
  label?: string[];
  labelDelete?: string[];
  warmAfter?: number;
  coldAfter?: number;
  onUnresponsive?: "none" | "restart";
  secret?: string[];
  secretFile?: string[];
  secretDelete?: string[];
}

export const command = () =>
  define("edit <sandbox>", "Change a sandbox: name, labels, secrets, when it goes to sleep.", [
    "bhatti edit dev --name staging",
    "bhatti edit dev --label team=web --label-delete owner",
    "bhatti edit dev --keep-hot",
    "bhatti edit dev --allow-cold --warm-after 1m --cold-after 2h",
    "bhatti edit dev --secret NPM_TOKEN --secret-file TLS_KEY:/etc/ssl/private/server.key",
    "bhatti edit ci --on-unresponsive restart",
  ])
    .option("--name <name>", "rename; the guest's own hostname stays")
    .option("--keep-hot", "never put to sleep; wakes it now")
    .option("--allow-cold", "put to sleep when idle")
    .option("--label <key=value>", "add or overwrite a label (repeatable)", collect)
    .option("--label-delete <key>", "remove a label (repeatable)", collect)
    .option("--secret <[VARIABLE=]name>", "give it a stored secret as a variable (repeatable)", collect)
    .option("--secret-file <name[:path[:mode[:owner]]]>", "give it one as a file (repeatable)", collect)
    .option("--secret-delete <name>", "give it this secret no more (repeatable)", collect)
    .option("--warm-after <time>", "pause after this much idleness: 30s, 10m, never", seconds("--warm-after"))
    .option("--cold-after <time>", "to disk after this much idleness", seconds("--cold-after"))
    .addOption(onUnresponsive())
    .action(async (sandbox: string, _flags, self) => {
      const flags = options<Flags>(self);
      if (flags.keepHot && flags.allowCold) throw usage("--keep-hot and --allow-cold exclude each other");
      const body = {
        name: flags.name,
        keep_hot: flags.keepHot ? true : flags.allowCold ? false : undefined,
        labels_add: flags.label ? pairs("--label", flags.label) : undefined,
        labels_remove: flags.labelDelete,
        warm_after_s: flags.warmAfter,
        cold_after_s: flags.coldAfter,
        on_unresponsive: flags.onUnresponsive,
        secrets_add:
          flags.secret || flags.secretFile
            ? [...secretVariables(flags.secret), ...secretFiles(flags.secretFile)]
            : undefined,
        secrets_remove: flags.secretDelete,
      };
      if (Object.values(body).every((value) => value === undefined))
        throw usage(
          "nothing to change",
          "give --name, --label, --label-delete, --keep-hot, --allow-cold, --warm-after, --cold-after, --on-unresponsive, --secret, --secret-file or --secret-delete",
        );
      const client = connect(flags);
      const after = await withSpinner("updating", () => client.sandboxes.patch(sandbox, body));
      if (flags.name) renameInCache(client.endpoint.url, sandbox, flags.name);
      if (printJson(after)) return;
      say(`Updated ${clean(sandbox)}`);
      const idle = (s: number | undefined) => (s === undefined ? undefined : s === 0 ? "never" : span(s));
      fields(
        [
          ["name", flags.name && `${flags.name} (the guest keeps its hostname)`],
          ["labels", flags.label || flags.labelDelete ? labels(after.labels) : undefined],
          ["keep_hot", body.keep_hot === undefined ? undefined : String(body.keep_hot)],
          ["warm after", idle(flags.warmAfter)],
          ["cold after", idle(flags.coldAfter)],
          ["if unresponsive", flags.onUnresponsive],
          ["secrets", body.secrets_add || flags.secretDelete ? secretsOf(after.secrets) : undefined],
          ["problem", after.secret_problems?.join("; ")],
        ],
        "  ",
      );
    });
