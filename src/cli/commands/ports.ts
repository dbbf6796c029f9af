import { connect } from "../base/context.ts";
import { CliError, EXIT, Exit, usage } from "../base/errors.ts";
import { clean, notice, printJson, say, table } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";

export const command = () =>
  define(
    "ports [sandbox]",
    "List the TCP ports something listens on; without a name, of all of your sandboxes that are awake. A sleeping sandbox is left asleep unless --wake is given.",
    ["bhatti ports", "bhatti ports dev", "bhatti ports dev --wake --json"],
  )
    .option("--wake", "wake it first if it sleeps")
    .action(async (sandbox: string | undefined, _flags, self) => {
      const flags = options<{ wake?: boolean }>(self);
      const client = connect(flags);
      if (sandbox === undefined) {
        if (flags.wake) throw usage("--wake needs the name of a sandbox", "bhatti ports <sandbox> --wake");
        return overview(client);
      }
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

async function overview(client: ReturnType<typeof connect>): Promise<void> {
  const [list, sandboxes] = await withSpinner("looking", () =>
    Promise.all([client.sandboxes.allPorts(), client.sandboxes.list()]),
  );
  const names = new Map(sandboxes.map(({ id, name }) => [id, name]));
  const ports = list.filter((entry) => "container_port" in entry);
  const silent = list.filter((entry) => "error" in entry);
  if (!printJson(list)) {
    if (ports.length === 0) say("No listening ports detected.");
    else
      table(
        ["SANDBOX", "PORT", "URL"],
        ports.map((p) => [
          names.get(p.sandbox_id) ?? p.sandbox_id,
          String(p.container_port),
          client.endpoint.url + clean(p.proxy_url),
        ]),
        [1],
      );
    for (const s of silent)
      notice(
        `sandbox/${clean(s.sandbox)} did not answer: ${clean(s.error)}${s.remedy ? `; ${clean(s.remedy)}` : ""}`,
      );
  }
  if (silent.length > 0) throw new Exit(EXIT.failure);
}
