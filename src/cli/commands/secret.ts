import { MAX_VALUE } from "../../client/secrets.ts";
import { connect } from "../base/context.ts";
import { CliError, usage } from "../base/errors.ts";
import { age } from "../base/format.ts";
import { clean, isTty, notice, printJson, say, table } from "../base/output.ts";
import { define, group, options } from "../base/program.ts";
import { askSecret, confirm } from "../base/prompt.ts";
import { readLocal } from "./local-file.ts";

export const command = () =>
  group(
    "secret",
    "Values that sandboxes are given as variables or files, and that nobody can read back.",
    [set(), list(), remove()],
    [
      "bhatti secret set NPM_TOKEN                      # asks for the value",
      "bhatti secret set TLS_KEY --file ./server.key",
      "bhatti create web --secret NPM_TOKEN --secret-file TLS_KEY:/etc/ssl/private/server.key:0440:root",
      "bhatti secret list --long",
    ],
  );

const set = () =>
  define(
    "set <name> [value]",
    "Make or replace a secret. Without a value it is asked for, or read from stdin. New processes of running sandboxes have the new one.",
    [
      "bhatti secret set NPM_TOKEN",
      "vault read -field=token secret/npm | bhatti secret set NPM_TOKEN",
      "bhatti secret set TLS_KEY --file ./server.key",
    ],
  )
    .option("--file <file>", "the file's bytes, exactly")
    .action(async (name: string, argument: string | undefined, _flags, self) => {
      const flags = options<{ file?: string }>(self);
      if (argument !== undefined && flags.file !== undefined)
        throw usage("a value and --file exclude each other");
      const value =
        flags.file !== undefined
          ? readLocal(flags.file)
          : argument !== undefined
            ? Buffer.from(argument)
            : await asked(name);
      if (argument !== undefined)
        notice("a value on the command line is in the list of processes and in your shell's history");
      if (value.length === 0) throw usage("the value is empty");
      if (value.length > MAX_VALUE)
        throw new CliError(`a secret has at most ${MAX_VALUE} bytes`, { code: "too_large" });
      const made = await connect(flags).secrets.set(name, value);
      if (!printJson(made)) say("ok");
    });

const list = () =>
  define("list", "List the names of your secrets, sorted.", [
    "bhatti secret list",
    "bhatti secret list --long",
    "bhatti secret list --json",
  ])
    .option("-l, --long", "also when each was changed, and which sandboxes are given it")
    .action(async (_flags, self) => {
      const flags = options<{ long?: boolean }>(self);
      const all = await connect(flags).secrets.list();
      if (printJson(all)) return;
      if (all.length === 0) return notice("no secrets yet: bhatti secret set <name>");
      if (!flags.long) return all.forEach(({ name }) => void say(clean(name)));
      table(
        ["NAME", "CHANGED", "USED BY"],
        all.map(({ name, updated_at, used_by = [] }) => [
          name,
          `${age(updated_at)} ago`,
          used_by.join(", ") || "-",
        ]),
      );
    });

const remove = () =>
  define("delete <name>", "Delete a secret. Sandboxes that are given it go on without it.", [
    "bhatti secret delete NPM_TOKEN",
    "bhatti secret delete NPM_TOKEN --yes",
  ])
    .option("-y, --yes", "do not ask")
    .action(async (name: string, _flags, self) => {
      const flags = options<{ yes?: boolean }>(self);
      await confirm(`Delete secret "${clean(name)}"?`, flags.yes);
      const done = await connect(flags).secrets.delete(name);
      if (printJson(done)) return;
      say("deleted");
      const { used_by = [] } = done;
      if (used_by.length > 0)
        notice(
          `new processes are without it in: ${used_by.map(clean).join(", ")}; those that run keep what they have`,
        );
    });

/** From the terminal without echo, or all of stdin. The end of a single line is not part of a value that was typed or echoed. */
async function asked(name: string): Promise<Buffer> {
  if (isTty(0))
    return Buffer.from(askSecret(`Value of ${clean(name)}`, "a value is needed", "pipe it in, or --file"));
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of Bun.stdin.stream()) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_VALUE + 2) break;
  }
  const all = Buffer.concat(chunks);
  const line = /^([^\n]*?)\r?\n$/s.exec(all.toString("latin1"));
  return line ? Buffer.from(line[1]!, "latin1") : all;
}
