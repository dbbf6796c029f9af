import { connect } from "../base/context.ts";
import { usage } from "../base/errors.ts";
import { age, bytes } from "../base/format.ts";
import { addToCache } from "../base/names-cache.ts";
import { clean, fields, notice, printJson, say, table } from "../base/output.ts";
import { filled } from "../base/parse.ts";
import { define, group, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";
import { confirm } from "../base/prompt.ts";
import { sayCreated } from "./created.ts";
import { exportCommand, importCommand } from "./snapshot-archive.ts";
import { verifyCommand } from "./snapshot-verify.ts";

export const command = () =>
  group(
    "snapshot",
    "Named snapshots: a sandbox as it was, memory and processes included.",
    [
      create(),
      list(),
      inspect(),
      remove(),
      resume(),
      restore(),
      verifyCommand(),
      exportCommand(),
      importCommand(),
    ],
    [
      "bhatti snapshot create dev --name before-upgrade",
      "bhatti snapshot restore dev before-upgrade",
      "bhatti snapshot resume before-upgrade --name second",
    ],
  );

const create = () =>
  define("create <sandbox>", "Take a snapshot. The sandbox goes on after a short pause.", [
    "bhatti snapshot create dev --name before-upgrade",
  ])
    .option("--name <name>", "name of the snapshot")
    .option("--label <name>", "same as --name")
    .action(async (sandbox: string, _flags, self) => {
      const flags = options<{ name?: string; label?: string }>(self);
      const name = flags.name ?? flags.label;
      if (name === undefined)
        throw usage("--name is required", `bhatti snapshot create ${sandbox} --name <name>`);
      if (flags.label !== undefined && flags.label !== name) throw usage("--name and --label differ");
      const client = connect(flags);
      const s = await withSpinner("taking the snapshot", () => client.snapshots.create(sandbox, name));
      if (printJson(s)) return;
      say(`snapshot "${clean(s.name)}" created (${s.size_mb} MiB)`);
      if (s.pause_ms !== undefined) say(`  paused: ${Math.round(s.pause_ms)} ms`);
    });

const list = () =>
  define("list", "List your snapshots, newest first.", [
    "bhatti snapshot list",
    "bhatti snapshot list --json",
  ]).action(async (_flags, self) => {
    const flags = options(self);
    const all = await connect(flags).snapshots.list();
    if (printJson(all)) return;
    table(
      ["NAME", "SOURCE", "KIND", "SIZE", "ON DISK", "AGE", "ID"],
      all.map((s) => [
        s.name,
        s.source_name || s.source_sandbox || "-",
        s.kind ?? "-",
        `${s.size_mb} MiB`,
        s.allocated_bytes === undefined ? "-" : bytes(s.exclusive_bytes ?? s.allocated_bytes),
        age(s.created_at),
        s.id,
      ]),
    );
    if (all.length === 0) notice("no snapshots yet: bhatti snapshot create <sandbox> --name <name>");
  });

const inspect = () =>
  define("inspect <snapshot>", "Show one snapshot.", ["bhatti snapshot inspect before-upgrade"]).action(
    async (name: string, _flags, self) => {
      const flags = options(self);
      const s = await connect(flags).snapshots.get(name);
      if (printJson(s)) return;
      fields([
        ["Name", s.name],
        ["ID", s.id],
        ["Source", [s.source_name, s.source_sandbox].filter(Boolean).join(" ") || undefined],
        ["Created", `${s.created_at} (${age(s.created_at)} ago)`],
        ["Kind", s.kind && (s.kind === "memory" ? "memory (processes go on)" : "disk (boots)")],
        ["Image", s.image || undefined],
        ["CPUs", s.cpus ? String(s.cpus) : undefined],
        ["Memory", s.memory_mb ? `${s.memory_mb} MB` : undefined],
        ["Size", `${s.size_mb} MiB`],
        ["On disk", s.allocated_bytes === undefined ? undefined : bytes(s.allocated_bytes)],
        ["Its own", s.exclusive_bytes == null ? undefined : bytes(s.exclusive_bytes)],
        ["Pause", s.pause_ms === undefined ? undefined : `${Math.round(s.pause_ms)} ms`],
      ]);
    },
  );

const remove = () =>
  define("delete <snapshot>", "Delete a snapshot. Sandboxes made from it stay.", [
    "bhatti snapshot delete before-upgrade --yes",
  ])
    .alias("rm")
    .option("-y, --yes", "do not ask")
    .action(async (name: string, _flags, self) => {
      const flags = options<{ yes?: boolean }>(self);
      const client = connect(flags);
      await confirm(`Delete snapshot "${clean(name)}"?`, flags.yes);
      const answer = await withSpinner("deleting", () => client.snapshots.delete(name));
      if (!printJson(answer)) say("deleted");
    });

const resume = () =>
  define("resume <snapshot>", "Make a new sandbox from a snapshot.", [
    "bhatti snapshot resume before-upgrade --name second",
  ])
    .option("--name <name>", "name of the sandbox", filled("--name"))
    .action(async (name: string, _flags, self) => {
      const flags = options<{ name?: string }>(self);
      const client = connect(flags);
      const s = await withSpinner("resuming", () => client.snapshots.resume(name, flags.name));
      addToCache(client.endpoint.url, s.name);
      if (!printJson(s)) sayCreated(s, `created from "${clean(name)}"`);
    });

const restore = () =>
  define(
    "restore <sandbox> <snapshot>",
    "Put a sandbox back to a snapshot, its identity kept. Its present state is saved as a snapshot first: the newest two of a sandbox are kept, count like others, and give way to newer ones when your limit is reached.",
    ["bhatti snapshot restore dev before-upgrade", "bhatti snapshot restore dev before-upgrade --no-safety"],
  )
    .option("--no-safety", "throw the present state away")
    .action(async (sandbox: string, name: string, _flags, self) => {
      const flags = options<{ safety: boolean }>(self);
      const client = connect(flags);
      const result = await withSpinner("restoring", () =>
        client.snapshots.restore(sandbox, name, flags.safety),
      );
      if (printJson(result)) return;
      const shown = clean(result.sandbox.name);
      say(`sandbox/${shown} restored to "${clean(name)}"`);
      if (result.safety_snapshot)
        say(`  Back:  bhatti snapshot restore ${shown} ${clean(result.safety_snapshot)}`);
      for (const gone of result.replaced ?? [])
        say(`  Gone:  ${clean(gone)}, an older state saved by restore`);
    });
