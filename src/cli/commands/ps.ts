import type { Client } from "../../client/client.ts";
import { connect } from "../base/context.ts";
import { CliError } from "../base/errors.ts";
import { age, bytes } from "../base/format.ts";
import { notice, printJson, table } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";

export const command = () =>
  define(
    "ps [sandbox]",
    "Processes of a sandbox; without a name, what all of yours are doing. Wakes nothing unless --wake is given.",
    ["bhatti ps", "bhatti ps dev", "bhatti ps dev --wake --json"],
  )
    .option("--wake", "wake it first if it sleeps")
    .action(async (sandbox: string | undefined, _flags, self) => {
      const flags = options<{ wake?: boolean }>(self);
      const client = connect(flags);
      if (sandbox === undefined) return overview(client);
      if (!flags.wake) {
        const { name, thermal } = await client.sandboxes.get(sandbox);
        if (thermal === "cold" || thermal === "warm")
          throw new CliError(`sandbox/${name} is asleep (${thermal}); its processes stand still`, {
            code: "not_running",
            remedy: `bhatti ps ${name} --wake`,
          });
      }
      const list = await withSpinner("looking", () => client.sandboxes.processes(sandbox));
      if (printJson(list)) return;
      table(
        ["PID", "UID", "STATE", "MEMORY", "COMMAND"],
        list.map((p) => [
          String(p.pid),
          String(p.uid),
          p.state,
          bytes(p.rss_kb * 1024),
          p.argv.length > 100 ? `${p.argv.slice(0, 99)}…` : p.argv,
        ]),
        [0, 1, 3],
      );
    });

async function overview(client: Client): Promise<void> {
  const list = await client.sandboxes.list();
  if (printJson(list)) return;
  table(
    ["NAME", "THERMAL", "REASON", "ACTIVE", "AGE"],
    list.map((s) => [s.name, s.thermal || "-", s.reason || "-", age(s.last_activity_at), age(s.created_at)]),
  );
  if (list.length === 0) notice("no sandboxes yet: bhatti create dev");
}
