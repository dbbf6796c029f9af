/** Shell completion: the scripts ask `bhatti __complete <words so far>`; names of sandboxes come from a small cache. */
import type { Command } from "commander";
import { readNames, writeNames } from "../base/names-cache.ts";
import { clean, write } from "../base/output.ts";
import type { Entry } from "../entry.ts";

const PATIENCE_MS = 700;

/** Commands whose first argument (behind the sub-command) is a sandbox, or a snapshot. */
const SANDBOX =
  /^(inspect|info|edit|exec|stop|start|destroy|rm|fork|ps|ports|publish|unpublish|share|file \w+|snapshot (create|restore))$/;
const SNAPSHOT = /^snapshot (inspect|delete|resume|verify|export)$/;

/** Prints one candidate a line. Never fails loudly: completion must not spoil the prompt. */
export async function complete(words: string[], commands: Entry[]): Promise<number> {
  try {
    const found = await candidates(words[0] === "--" ? words.slice(1) : words, commands);
    const prefix = words.at(-1) ?? "";
    for (const word of found) if (word.startsWith(prefix)) write(1, `${clean(word)}\n`);
  } catch {
    // no candidates
  }
  return 0;
}

async function candidates(words: string[], commands: Entry[]): Promise<string[]> {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? "";
  const plain = before.filter((word) => !word.startsWith("-"));
  const entry =
    plain[0] === undefined
      ? undefined
      : commands.find((c) => c.name === plain[0] || c.aliases?.includes(plain[0]!));
  if (!entry)
    return plain.length > 0
      ? []
      : commands
          .filter((c) => !c.hidden)
          .map((c) => c.name)
          .concat("help");
  if (entry.name === "completion") return ["bash", "zsh", "fish"];
  if (!entry.load) return [];
  let command: Command = (await entry.load()).command();
  let depth = 1;
  if (command.commands.length > 0) {
    const child = command.commands.find((c) => c.name() === plain[1]);
    if (!child) return plain.length > 1 ? [] : command.commands.map((c) => c.name());
    command = child;
    depth = 2;
  }
  if (current.startsWith("-"))
    return [
      ...command.options.flatMap((o) => (o.long ? [o.long] : [])),
      "--help",
      "--json",
      "--url",
      "--token",
    ];
  const key = plain.slice(0, depth).join(" ");
  const first = plain.length === depth || ["stop", "start", "destroy", "rm"].includes(plain[0]!);
  if (first && SANDBOX.test(key)) return sandboxNames();
  if ((first && SNAPSHOT.test(key)) || (key === "snapshot restore" && plain.length === depth + 1))
    return snapshotNames();
  if (first && key === "secret delete") return secretNames();
  return [];
}

async function quickClient() {
  const [{ endpoint }, { Client }] = await Promise.all([
    import("../base/config.ts"),
    import("../../client/client.ts"),
  ]);
  const where = endpoint({});
  return new Client({ url: where.url, token: where.token, signal: AbortSignal.timeout(PATIENCE_MS) });
}

async function sandboxNames(): Promise<string[]> {
  const client = await quickClient();
  const cached = readNames(client.http.base);
  if (cached?.fresh) return cached.names;
  try {
    const names = (await client.sandboxes.list()).map((s) => s.name);
    writeNames(client.http.base, names);
    return names;
  } catch {
    return cached?.names ?? [];
  }
}

const snapshotNames = async () => (await (await quickClient()).snapshots.list()).map((s) => s.name);

const secretNames = async () => (await (await quickClient()).secrets.list()).map((s) => s.name);
