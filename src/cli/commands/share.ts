import { connect } from "../base/context.ts";
import { usage } from "../base/errors.ts";
import { localTime } from "../base/format.ts";
import { clean, notice, printJson, say } from "../base/output.ts";
import { integer, seconds } from "../base/parse.ts";
import { define, options } from "../base/program.ts";

export const command = () =>
  define(
    "share <sandbox>",
    "A link to a published port that lets its holder in until it expires, whoever else is kept out.",
    [
      "bhatti publish dev -p 3000 --link && bhatti share dev -p 3000",
      "bhatti share dev -p 3000 --expires 7d",
      "bhatti share dev -p 3000 --revoke                # ends all links and all that were let in",
    ],
  )
    .option("-p, --port <n>", "the port that is published", integer("--port", 1, 65535))
    .option("--expires <time>", "how long the link holds (1d): 10m, 2h, 7d", seconds("--expires"))
    .option("--revoke", "end all links of this port")
    .action(async (sandbox: string, _flags, self) => {
      const flags = options<{ port?: number; expires?: number; revoke?: boolean }>(self);
      if (flags.port === undefined)
        throw usage("which port?", `bhatti share ${clean(sandbox)} -p 3000; there is no web shell (yet)`);
      const client = connect(flags).publish;
      if (flags.revoke) {
        await client.revoke(sandbox, flags.port);
        return say("All links are ended.");
      }
      if (flags.expires !== undefined && flags.expires < 60)
        throw usage("--expires: a link holds a minute at least");
      const link = await client.share(sandbox, flags.port, flags.expires);
      if (printJson(link)) return;
      say(clean(link.url));
      notice(`it holds until ${localTime(link.expires_at)}; whoever has it can pass it on`);
    });
