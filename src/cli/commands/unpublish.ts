import { connect } from "../base/context.ts";
import { usage } from "../base/errors.ts";
import { clean, notice, printJson, say } from "../base/output.ts";
import { integer } from "../base/parse.ts";
import { define, options } from "../base/program.ts";

export const command = () =>
  define(
    "unpublish <sandbox>",
    "Take a URL back. What runs through it is cut, and its name is free for others.",
    ["bhatti unpublish dev -p 3000", "bhatti unpublish dev --all"],
  )
    .option("-p, --port <n>", "the port that is published", integer("--port", 1, 65535))
    .option("--all", "every port of the sandbox")
    .action(async (sandbox: string, _flags, self) => {
      const flags = options<{ port?: number; all?: boolean }>(self);
      if ((flags.port === undefined) === !flags.all)
        throw usage("give a port or --all", `bhatti publish list ${clean(sandbox)}`);
      const client = connect(flags).publish;
      const ports = flags.all ? (await client.list(sandbox)).map(({ port }) => port) : [flags.port as number];
      for (const port of ports) {
        await client.unpublish(sandbox, port);
        say(`Unpublished port ${port}`);
      }
      if (ports.length === 0) notice("nothing of it was published");
      if (flags.all) printJson(ports.map((port) => ({ port })));
    });
