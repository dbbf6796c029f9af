import { basename } from "node:path";
import { connect } from "../base/context.ts";
import { CliError, usage } from "../base/errors.ts";
import { bytes } from "../base/format.ts";
import { clean, isTty, jsonMode, notice, printJson, say } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { meter, withSpinner } from "../base/progress.ts";
import { source, toFile, toStdout } from "./local-file.ts";

/** That of the file without its endings; what a name cannot have becomes a dash. */
const nameOf = (file: string): string =>
  basename(file)
    .replace(/(\.tar)?(\.zst)?$/, "")
    .replace(/[^A-Za-z0-9._-]+/g, "-");

/** `snapshot export`. */
export const exportCommand = () =>
  define(
    "export <snapshot>",
    "Save a snapshot as one archive: compressed tar with manifest and checksums. It holds the memory of the machine, secrets included.",
    [
      "bhatti snapshot export before-upgrade -o before-upgrade.tar.zst",
      "bhatti snapshot export before-upgrade | ssh other bhatti snapshot import - --name before-upgrade",
    ],
  )
    .option("-o, --output <file>", "save here (0600); - is stdout")
    .option("--force", "replace an existing file")
    .action(async (name: string, _flags, self) => {
      const flags = options<{ output?: string; force?: boolean }>(self);
      const file = flags.output ?? "-";
      if (file === "-" && isTty(1))
        throw usage(
          "an archive is nothing for a terminal",
          `bhatti snapshot export ${name} -o ${name}.tar.zst`,
        );
      if (file === "-" && jsonMode()) throw usage("--json needs -o <file>: stdout is taken by the archive");
      const client = connect(flags);
      const answer = await withSpinner("packing", () => client.snapshots.export(name));
      if (!answer.body) throw new CliError("the server sent no archive");
      const length = Number(answer.headers.get("content-length") ?? 0);
      const progress = meter(clean(name), length || undefined);
      try {
        const stream = progress.through(answer.body);
        if (file === "-") return await toStdout(stream);
        const size = await toFile(stream, file, flags.force === true);
        progress.end();
        if (!printJson({ name, file, size })) say(`${file} (${bytes(size)})`);
      } finally {
        progress.end();
      }
    });

/** `snapshot import`. */
export const importCommand = () =>
  define(
    "import <file>",
    "Load an archive made by export; - is stdin. Refused when CPU, VMM or kernel of this server do not fit. Of an archive from another server the disk is taken: it boots.",
    [
      "bhatti snapshot import before-upgrade.tar.zst",
      "bhatti snapshot import old.tar.zst --name old --cold",
      "bhatti snapshot import from-my-other-server.tar.zst --trust-state",
    ],
  )
    .option("--name <name>", "name of the snapshot (that of the file without its endings)")
    .option("--cold", "take the disk alone: it will boot, on any server")
    .option(
      "--trust-state",
      "resume the memory although another server made it: for operators, who know where the archive comes from",
    )
    .action(async (file: string, _flags, self) => {
      const flags = options<{ name?: string; cold?: boolean; trustState?: boolean }>(self);
      if (flags.cold && flags.trustState) throw usage("--cold and --trust-state exclude each other");
      const name = flags.name ?? (file === "-" ? undefined : nameOf(file));
      if (!name) throw usage("--name is required when the archive comes from stdin");
      const client = connect(flags);
      const progress = meter(clean(name));
      const { body, size } = source(file, progress.of);
      try {
        const s = await client.snapshots.import(name, body, {
          cold: flags.cold === true,
          trustState: flags.trustState === true,
          size,
        });
        progress.end();
        if (printJson(s)) return;
        if (s.notice) notice(clean(s.notice));
        say(`imported "${clean(s.name)}" (${s.size_mb} MiB, ${s.kind === "disk" ? "boots" : "resumes"})`);
      } finally {
        progress.end();
      }
    });
