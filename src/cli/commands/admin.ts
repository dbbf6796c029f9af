import { connect } from "../base/context.ts";
import { bytes, localTime } from "../base/format.ts";
import { clean, fields, jsonMode, printJson, say, table, write } from "../base/output.ts";
import { integer, since } from "../base/parse.ts";
import { define, group, options } from "../base/program.ts";
import { interrupted } from "../base/signals.ts";

export const command = () =>
  group(
    "admin",
    "For operators: state of the service, events, metrics. Needs the key of an operator.",
    [status(), events(), metrics()],
    ["bhatti admin status", "bhatti admin events --since 2h --type sandbox", "bhatti admin metrics"],
  );

/** Nested objects as dotted names, so that whatever a server tells is shown. */
function flatten(value: Record<string, unknown>, prefix = ""): [string, string][] {
  return Object.entries(value).flatMap(([key, member]): [string, string][] => {
    if (typeof member === "object" && member !== null && !Array.isArray(member))
      return flatten(member as Record<string, unknown>, `${prefix}${key}.`);
    const text = typeof member === "string" ? member : JSON.stringify(member);
    const human = typeof member === "number" && /bytes$/.test(key) ? `${bytes(member)}` : text;
    return [[prefix + key, human ?? "-"]];
  });
}

const status = () =>
  define("status", "Sandboxes, memory, users and host at a glance.", [
    "bhatti admin status",
    "bhatti admin status --json",
  ]).action(async (_flags, self) => {
    const flags = options(self);
    const answer = await connect(flags).admin.status();
    if (!printJson(answer)) fields(flatten(answer));
  });

interface EventFlags {
  type?: string;
  user?: string;
  sandbox?: string;
  since?: string;
  limit?: number;
  follow?: boolean;
}

/** Events looked through for --since; the server's own limit. */
const SEARCHED = 10_000;

interface ShownEvent {
  ts: string;
  type: string;
  user_id?: string;
  user_name?: string;
  userId?: string;
  sandbox_id?: string;
  sandboxId?: string;
  meta?: Record<string, unknown>;
}

const events = () =>
  define(
    "events",
    "What happened, newest first; with --follow what happens from now on (--json: one object a line).",
    [
      "bhatti admin events --since 2h",
      "bhatti admin events --type thermal --sandbox 3f0c9a4be17d2256",
      "bhatti admin events --follow",
    ],
  )
    .option("--type <prefix>", "only this type, or those below it: sandbox, thermal.wake")
    .option("--user <user>", "only of this user")
    .option("--sandbox <id>", "only of this sandbox")
    .option("--since <time>", "not older: 2h, 2026-05-02, 2026-05-02T10:00:00Z", since("--since"))
    .option("--limit <n>", "at most so many (50)", integer("--limit", 1, 10_000))
    .option("-f, --follow", "go on until Ctrl-C")
    .action(async (_flags, self) => {
      const { type, user, sandbox, since, limit, follow, ...globals } = options<EventFlags>(self);
      const client = connect(globals);
      const query = { type, user, sandbox };
      if (follow) {
        for await (const event of client.admin.follow(query)) {
          if (jsonMode()) write(1, `${JSON.stringify(event)}\n`);
          else
            say(
              row(event as unknown as ShownEvent)
                .map(clean)
                .join("  "),
            );
        }
        interrupted.throwIfAborted();
        return;
      }
      const wanted = limit ?? 50;
      // The server counts, it does not look at clocks: a time is a matter of this side.
      const found = await client.admin.events({ ...query, limit: since ? SEARCHED : wanted });
      const list = found
        .filter((event) => !since || Date.parse(event.ts) >= Date.parse(since))
        .sort((a, b) => b.id - a.id)
        .slice(0, wanted);
      if (printJson(list)) return;
      if (list.length === 0) return say("No events found.");
      table(
        ["TIME", "TYPE", "USER", "SANDBOX", "DETAILS"],
        list.map((event) => row(event as unknown as ShownEvent)),
      );
    });

function row(event: ShownEvent): string[] {
  const { name, sandbox, ...rest } = event.meta ?? {};
  const details = Object.entries(rest)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
  const id = event.user_id ?? event.userId ?? "-";
  const user = event.user_name ? `${event.user_name} (${id})` : id;
  const which = name ?? sandbox ?? event.sandbox_id ?? event.sandboxId;
  return [localTime(event.ts), event.type, user, String(which || "-"), details];
}

const metrics = () =>
  define(
    "metrics",
    "The figures of /metrics, in Prometheus' text format; with --json as name, labels and value.",
    ["bhatti admin metrics | grep sandboxes", "bhatti admin metrics --json"],
  ).action(async (_flags, self) => {
    const flags = options(self);
    const text = await connect(flags).admin.metrics();
    if (!printJson(jsonMode() ? parseMetrics(text) : undefined)) write(1, text);
  });

/** Samples of Prometheus' text format. Lines that are none are left out. */
export function parseMetrics(
  text: string,
): { name: string; labels: Record<string, string>; value: number }[] {
  return text.split("\n").flatMap((line) => {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!match) return [];
    const labels: Record<string, string> = {};
    for (const [, key, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      labels[key!] = value!.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
    return [{ name: match[1]!, labels, value: Number(match[3]) }];
  });
}
