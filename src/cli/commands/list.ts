import { connect } from "../base/context.ts";
import { usage } from "../base/errors.ts";
import { age, labels } from "../base/format.ts";
import { writeNames } from "../base/names-cache.ts";
import { notice, printJson, say, setJson, table } from "../base/output.ts";
import { collect } from "../base/parse.ts";
import { define, options } from "../base/program.ts";

interface Flags {
  output?: string;
  label?: string[];
  quiet?: boolean;
}

export const command = () =>
  define("list", "List your sandboxes, newest first. Wakes nothing.", [
    "bhatti list",
    "bhatti list -o wide --label team=web",
    "bhatti list -q | xargs bhatti stop",
    "bhatti list --json",
  ])
    .option("-o, --output <format>", "table, wide, name or json")
    .option("--label <key=value>", "only those with this label (repeatable, all must match)", collect)
    .option("-q, --quiet", "names only")
    .action(async (_flags, self) => {
      const flags = options<Flags>(self);
      const format = flags.quiet ? "name" : (flags.output ?? "table");
      if (!["table", "wide", "name", "json"].includes(format))
        throw usage(`-o: "${format}" is not table, wide, name or json`);
      const client = connect(flags);
      const list = await client.sandboxes.list(flags.label);
      if (!flags.label)
        writeNames(
          client.endpoint.url,
          list.map((s) => s.name),
        );
      if (format === "json") setJson(true);
      if (printJson(list)) return;
      if (format === "name") return list.forEach((s) => void say(s.name));
      if (format === "wide")
        table(
          ["NAME", "STATUS", "THERMAL", "IP", "CPUS", "MEMORY", "DISK", "IMAGE", "AGE", "LABELS"],
          list.map((s) => [
            s.name,
            statusOf(s),
            s.thermal || "-",
            s.ip,
            String(s.cpus || 1),
            String(s.memory_mb || 1024),
            s.disk_size_mb > 0 ? String(s.disk_size_mb) : "-",
            s.image || "minimal",
            age(s.created_at),
            labels(s.labels),
          ]),
        );
      else {
        const urls = list.some((s) => (s.urls ?? []).length > 0);
        table(
          ["NAME", "STATUS", "THERMAL", "IP", ...(urls ? ["URL"] : [])],
          list.map((s) => [
            s.name,
            statusOf(s),
            s.thermal || "-",
            s.ip,
            ...(urls ? [s.urls?.[0] ?? "-"] : []),
          ]),
        );
      }
      if (list.length === 0)
        notice(flags.label ? "no sandbox has these labels" : "no sandboxes yet: bhatti create dev");
    });

const statusOf = (s: { status: string; unresponsive?: unknown }) =>
  s.unresponsive ? "unresponsive" : s.status;
