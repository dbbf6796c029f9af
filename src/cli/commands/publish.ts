import type { PublishedPort, Visibility } from "../../client/publish.ts";
import { connect } from "../base/context.ts";
import { usage } from "../base/errors.ts";
import { bytes } from "../base/format.ts";
import { clean, notice, printJson, say, table } from "../base/output.ts";
import { integer } from "../base/parse.ts";
import { define, options } from "../base/program.ts";
import { askSecret } from "../base/prompt.ts";
import { laterOption } from "./later.ts";
import { openInBrowser } from "./open-url.ts";

interface Flags {
  port?: number;
  alias?: string;
  public?: boolean;
  password?: boolean | string;
  link?: boolean;
  open?: boolean;
  stats?: boolean;
}

export const command = () =>
  define(
    "publish <sandbox> [of]",
    "Give a port of a sandbox a URL that wakes it. The name is made so that nobody can guess it, unless --alias chooses one. 'publish list [sandbox]' shows what is published. A server that listens on 127.0.0.1 or ::1 only is reached too.",
    [
      "bhatti publish dev -p 3000",
      "bhatti publish dev -p 3000 --alias demo --open",
      "bhatti publish dev -p 3000 --password            # asks for it; visitors are asked, too",
      "bhatti publish dev -p 3000 --link                # only with links: bhatti share dev -p 3000",
      "bhatti publish list",
      "bhatti publish list dev --stats",
    ],
  )
    .option("-p, --port <n>", "the port in the sandbox", integer("--port", 1, 65535))
    .option("-a, --alias <name>", "first label of the host's name: a-z, 0-9 and -, at most 63")
    .option("--public", "anybody with the URL may see it (default)")
    .option("--password [password]", "visitors are asked for a password")
    .option("--link", "only who has a link of 'bhatti share' may see it")
    .option("--open", "open it in the browser")
    .option("--stats", "with list: requests, wakes, times since the server's start")
    .addOption(laterOption("--shell", "web shell"))
    .action(async (sandbox: string, of: string | undefined, _flags, self) => {
      const flags = options<Flags>(self);
      if ((sandbox === "list" || sandbox === "ls") && flags.port === undefined)
        return list(connect(flags), of, flags.stats ?? false);
      if (of !== undefined) throw usage(`one sandbox is published at a time, not "${of}"`);
      if (flags.port === undefined)
        throw usage(
          "which port?",
          `bhatti publish ${clean(sandbox)} -p 3000; bhatti ports ${clean(sandbox)}`,
        );
      const visibility = visibilityOf(flags);
      const password = visibility === "password" ? passwordOf(flags.password) : undefined;
      const made = await connect(flags).publish.publish(sandbox, {
        port: flags.port,
        alias: flags.alias,
        visibility,
        password,
      });
      if (made.existing && made.differs?.includes("alias"))
        notice(
          `port ${made.port} has the name ${clean(made.alias)} already and keeps it: unpublish it first to give it another`,
        );
      if (!printJson(made)) {
        say(`Published: ${clean(made.url)}`);
        if (made.local_url) say(`Here:      ${clean(made.local_url)}`);
        if (made.visibility === "link")
          notice(`it opens with links only: bhatti share ${clean(made.sandbox)} -p ${made.port}`);
      }
      if (flags.open) openInBrowser(made.local_url ?? made.url);
    });

function visibilityOf(flags: Flags): Visibility | undefined {
  const chosen = [
    ...(flags.public ? ["public" as const] : []),
    ...(flags.password ? ["password" as const] : []),
    ...(flags.link ? ["link" as const] : []),
  ];
  if (chosen.length > 1) throw usage("--public, --password and --link exclude each other");
  return chosen[0];
}

function passwordOf(given: boolean | string | undefined): string {
  if (typeof given === "string") {
    notice("a password on the command line is in the list of processes and in your shell's history");
    return given;
  }
  return askSecret("Password for visitors", "a password is needed", "--password <password>");
}

async function list(
  client: ReturnType<typeof connect>,
  of: string | undefined,
  stats: boolean,
): Promise<void> {
  const all = await client.publish.list(of, stats);
  if (printJson(all)) return;
  if (all.length === 0) return notice("nothing is published yet: bhatti publish <sandbox> -p <port>");
  if (stats) return showStats(all);
  table(
    ["SANDBOX", "PORT", "WHO", "URL"],
    all.map((one) => [one.sandbox, String(one.port), one.visibility, one.url]),
    [1],
  );
}

function showStats(all: PublishedPort[]): void {
  const ms = (value: number | null | undefined) => (value == null ? "-" : `${value} ms`);
  table(
    ["ALIAS", "REQUESTS", "OPEN", "ERRORS", "REFUSED", "WAKES", "P50", "P95", "IN", "OUT"],
    all.map(({ alias, stats }) => [
      alias,
      ...[stats?.requests, stats?.open, stats?.errors, stats?.refused, stats?.wakes].map((n) =>
        String(n ?? "-"),
      ),
      ms(stats?.p50_ms),
      ms(stats?.p95_ms),
      bytes(stats?.bytes_in ?? 0),
      bytes(stats?.bytes_out ?? 0),
    ]),
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
}
