import { connect } from "../base/context.ts";
import { CliError, usage } from "../base/errors.ts";
import { bytes, localTime } from "../base/format.ts";
import { clean, fields, printJson, say } from "../base/output.ts";
import { integer, mode } from "../base/parse.ts";
import { define, group, options } from "../base/program.ts";
import { meter, withSpinner } from "../base/progress.ts";
import { guestPath, line, shown } from "./guest-names.ts";
import { source, toFile, toStdout } from "./local-file.ts";

export const command = () =>
  group(
    "file",
    "Read and write files in a sandbox. Binary-safe, streamed; a sleeping sandbox wakes.",
    [read(), writeFile(), list(), stat()],
    [
      "bhatti file read dev /etc/os-release",
      "bhatti file write dev /workspace/data.bin < data.bin",
      "bhatti file ls dev /workspace",
    ],
  );

interface ReadFlags {
  output?: string;
  force?: boolean;
  offset?: number;
  limit?: number;
  maxBytes?: number;
}

const read = () =>
  define("read <sandbox> <path>", "Print a file, or save it with -o.", [
    "bhatti file read dev /var/log/app.log --offset 100 --limit 20",
    "bhatti file read dev /workspace/build.tar -o build.tar",
  ])
    .option("-o, --output <file>", "save here; the file appears when it is complete")
    .option("--force", "replace an existing file")
    .option("--offset <line>", "first line, from 1", integer("--offset", 1))
    .option("--limit <lines>", "at most so many lines", integer("--limit", 1))
    .option("--max-bytes <n>", "at most so many bytes", integer("--max-bytes", 1))
    .action(async (sandbox: string, path: string, _flags, self) => {
      const flags = options<ReadFlags>(self);
      const part = flags.limit !== undefined || flags.maxBytes !== undefined;
      if (flags.offset !== undefined && !part) throw usage("--offset needs --limit or --max-bytes");
      const client = connect(flags);
      const answer = await withSpinner("reading", () =>
        client.files.read(sandbox, guestPath(path), {
          offset: flags.offset,
          limit: flags.limit,
          max_bytes: flags.maxBytes,
        }),
      );
      const announced = Number(answer.headers.get("x-file-size") ?? Number.NaN);
      const total = !part && Number.isFinite(announced) ? announced : undefined;
      const progress = meter(clean(path), total);
      let received = 0;
      const counted = (answer.body ?? new Blob().stream()).pipeThrough(
        new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, out) {
            received += chunk.length;
            progress.add(chunk.length);
            out.enqueue(chunk);
          },
          flush() {
            // A guest that was lost in between must not pass for a short file. (Files may grow while they are read.)
            if (total !== undefined && received < total)
              throw new CliError(`${path} ended after ${received} of ${total} bytes`, { code: "truncated" });
          },
        }),
      );
      try {
        if (flags.output === undefined) return await toStdout(counted);
        const size = await toFile(counted, flags.output, flags.force === true);
        progress.end();
        if (!printJson({ path, file: flags.output, size })) say(`${flags.output} (${bytes(size)})`);
      } finally {
        progress.end();
      }
    });

const writeFile = () =>
  define(
    "write <sandbox> <path> [local]",
    "Write stdin, or a local file, to a file, through links. What exists keeps its mode, owner and attributes.",
    [
      "echo hello | bhatti file write dev /workspace/hello.txt",
      "bhatti file write dev /workspace/run.sh ./run.sh --mode 0755",
      "bhatti file write dev /etc/motd ./motd --owner root:root",
    ],
  )
    .option(
      "--mode <octal>",
      "permissions (those of the file that exists; 0644 for a new one)",
      mode("--mode"),
    )
    .option("--owner <user[:group]>", "owner (that of the file that exists; the default user for a new one)")
    .action(async (sandbox: string, path: string, local: string | undefined, _flags, self) => {
      const flags = options<{ mode?: string; owner?: string }>(self);
      const client = connect(flags);
      const progress = meter(clean(path));
      const { body, size } = source(local, progress.of);
      try {
        await client.files.write(sandbox, guestPath(path), body, { ...flags, size });
      } finally {
        progress.end();
      }
      if (!printJson({ status: "ok", path })) say("ok");
    });

const list = () =>
  define("ls <sandbox> <path>", "List a directory, sorted by name, or the file itself.", [
    "bhatti file ls dev /workspace",
    "bhatti file ls dev / --json",
  ])
    .option("--limit <n>", "at most so many entries", integer("--limit", 1))
    .action(async (sandbox: string, path: string, _flags, self) => {
      const flags = options<{ limit?: number }>(self);
      const client = connect(flags);
      const entries = await withSpinner("listing", () =>
        client.files.list(sandbox, guestPath(path), flags.limit),
      );
      entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
      if (printJson(entries)) return;
      for (const entry of entries) say(line(entry));
    });

const stat = () =>
  define("stat <sandbox> <path>", "Kind, size, mode and owner of a file; a link is not followed.", [
    "bhatti file stat dev /etc/passwd",
  ]).action(async (sandbox: string, path: string, _flags, self) => {
    const flags = options(self);
    const client = connect(flags);
    const found = await withSpinner("looking", () => client.files.stat(sandbox, guestPath(path)));
    if (printJson({ ...found, path })) return;
    fields([
      ["Path", path],
      ["Kind", found.kind.replace("_", " ")],
      ["Target", found.kind === "symlink" ? shown(found.target ?? "", found.target_b64) : undefined],
      ["Device", found.device],
      ["Size", `${found.size} (${bytes(found.size)})`],
      ["Mode", found.mode],
      ["Owner", `${found.uid}:${found.gid}`],
      ["Links", String(found.links)],
      ["Modified", localTime(new Date(found.mtime * 1000).toISOString())],
    ]);
  });
