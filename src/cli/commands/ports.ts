import { connect } from "../base/context.ts";
import { CliError } from "../base/errors.ts";
import { clean, printJson, say, table } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";

export const command = () =>
  define(
    "ports <sandbox>",
    "List the TCP ports something listens on. A sleeping sandbox is left asleep unless --wake is given.",
    ["bhatti ports dev", "bhatti ports dev --wake --json"],
  )
    .option("--wake", "wake it first if it sleeps")
    .action(async (sandbox: string, _flags, self) => {
      const flags = options<{ wake?: boolean }>(self);
      const client = connect(flags);
      if (!flags.wake) {
        const { name, thermal } = await client.sandboxes.get(sandbox);
        if (thermal === "cold" || thermal === "warm")
          throw new CliError(`sandbox/${name} is asleep (${thermal})`, {
            code: "not_running",
            remedy: `bhatti ports ${name} --wake`,
          });
      }
      const list = await withSpinner("looking", () => client.sandboxes.ports(sandbox));
      if (printJson(list)) return;
      if (list.length === 0) return say("No listening ports detected.");
      table(
        ["PORT", "URL"],
        list.map((p) => [String(p.container_port), client.endpoint.url + clean(p.proxy_url)]),
      );
    });
