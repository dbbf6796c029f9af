import type { Client } from "../../client/client.ts";
import { connect } from "../base/context.ts";
import { CliError } from "../base/errors.ts";
import { age } from "../base/format.ts";
import { notice, printJson, table } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";

/** Needs nothing but a shell and /proc: images need not have ps. Fields: pid, uid, argv. */
const SCRIPT = `cd /proc && for p in [0-9]*; do
  a=$(tr '\\000' ' ' 2>/dev/null <$p/cmdline) || continue; [ -n "$a" ] || continue; u=
  while read -r k v r; do [ "$k" = Uid: ] && u=$v && break; done 2>/dev/null <$p/status
  printf '%s\\t%s\\t%s\\n' "$p" "$u" "$(printf %s "$a" | tr '\\n\\t' '  ')"
done`;

export const command = () =>
  define(
    "ps [sandbox]",
    "Processes of a sandbox; without a name, what all of yours are doing. Wakes nothing unless --wake is given.",
    ["bhatti ps", "bhatti ps dev", "bhatti ps dev --wake --json"],
  )
    .option("--wake", "wake it first if it sleeps")
    .action(async (sandbox: string | undefined, _flags, self) => {
      const flags = options<{ wake?: boolean }>(self);
      const client = connect(flags);
      if (sandbox === undefined) return overview(client);
      if (!flags.wake) {
        const { name, thermal } = await client.sandboxes.get(sandbox);
        if (thermal === "cold" || thermal === "warm")
          throw new CliError(`sandbox/${name} is asleep (${thermal}); its processes stand still`, {
            code: "not_running",
            remedy: `bhatti ps ${name} --wake`,
          });
      }
      const list = await withSpinner("looking", () => processes(client, sandbox));
      if (printJson(list)) return;
      table(
        ["PID", "UID", "COMMAND"],
        list.map((p) => [
          String(p.pid),
          String(p.uid),
          p.argv.length > 100 ? `${p.argv.slice(0, 99)}…` : p.argv,
        ]),
        [0, 1],
      );
    });

async function overview(client: Client): Promise<void> {
  const list = await client.sandboxes.list();
  if (printJson(list)) return;
  table(
    ["NAME", "THERMAL", "REASON", "ACTIVE", "AGE"],
    list.map((s) => [s.name, s.thermal || "-", s.reason || "-", age(s.last_activity_at), age(s.created_at)]),
  );
  if (list.length === 0) notice("no sandboxes yet: bhatti create dev");
}

async function processes(
  client: Client,
  sandbox: string,
): Promise<{ pid: number; uid: number; argv: string }[]> {
  let text = "";
  let complaint = "";
  const decoder = new TextDecoder();
  const outcome = await client.exec.run(
    sandbox,
    { cmd: ["/bin/sh", "-c", SCRIPT], timeout_sec: 20 },
    {
      stdout(chunk) {
        if (text.length < 4_000_000) text += decoder.decode(chunk, { stream: true });
      },
      stderr(chunk) {
        if (complaint.length < 1000) complaint += new TextDecoder().decode(chunk);
      },
    },
  );
  if (outcome.exitCode !== 0 && text === "") throw new CliError(`cannot list processes: ${complaint.trim()}`);
  return text
    .split("\n")
    .map((line) => line.split("\t"))
    .filter((parts) => parts.length >= 3)
    .map(([pid, uid, argv]) => ({ pid: Number(pid), uid: Number(uid), argv: argv!.trim() }));
}
