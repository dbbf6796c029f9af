import { MAX_FORKS } from "../../client/snapshots.ts";
import { connect } from "../base/context.ts";
import { usage } from "../base/errors.ts";
import { addToCache } from "../base/names-cache.ts";
import { clean, printJson, say } from "../base/output.ts";
import { collect, filled, integer } from "../base/parse.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";

export const command = () =>
  define(
    "fork <sandbox>",
    "Make running copies of a sandbox: memory, processes and disk, with an identity of their own. All or none.",
    ["bhatti fork dev", "bhatti fork dev --count 5", "bhatti fork dev --name try-a --name try-b"],
  )
    .option("--count <n>", `how many (1), at most ${MAX_FORKS}`, integer("--count", 1, MAX_FORKS))
    .option("--name <name>", "name of a copy (repeatable)", collect)
    .action(async (sandbox: string, _flags, self) => {
      const flags = options<{ count?: number; name?: string[] }>(self);
      const names = flags.name?.flatMap((text) => text.split(","));
      names?.forEach(filled("--name"));
      const count = flags.count ?? names?.length ?? 1;
      if (names && names.length !== count) throw usage(`--count ${count} does not fit ${names.length} names`);
      const client = connect(flags);
      const result = await withSpinner(`forking ${clean(sandbox)}`, () =>
        client.snapshots.fork(sandbox, { count, names }),
      );
      addToCache(client.endpoint.url, ...result.sandboxes.map((copy) => copy.name));
      if (printJson(result)) return;
      for (const copy of result.sandboxes)
        say(`sandbox/${clean(copy.name)} forked from ${clean(sandbox)} (${clean(copy.ip)})`);
      say(`  paused: ${Math.round(result.pause_ms)} ms`);
    });
