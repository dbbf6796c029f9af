/** Commands that act on several sandboxes: by name, by label, or all. */
import type { Command } from "commander";
import type { Client } from "../../client/client.ts";
import { ApiError } from "../../client/error.ts";
import { CliError, usage } from "../base/errors.ts";
import { printJson, say } from "../base/output.ts";
import { collect } from "../base/parse.ts";

export interface Selection {
  label?: string[];
  all?: boolean;
}

export const selectable = (command: Command): Command =>
  command
    .option("--label <key=value>", "those with this label (repeatable, all must match)", collect)
    .option("--all", "all of yours");

/** Names given, or those the flags select. @throws CliError when both or neither are given. */
export async function targets(client: Client, names: string[], selection: Selection): Promise<string[]> {
  const selects = selection.all || (selection.label ?? []).length > 0;
  if (names.length > 0 && selects) throw usage("give names or --label/--all, not both");
  if (names.length > 0) return [...new Set(names)];
  if (!selects) throw usage("which sandbox? Give a name, --label or --all");
  return (await client.sandboxes.list(selection.label)).map((s) => s.name);
}

/**
 * Does `act` for each, one after the other, goes on after a failure and fails at the end if any did.
 * --json: the single answer for one name, an array otherwise.
 */
export async function each<T>(
  names: string[],
  many: boolean,
  act: (name: string) => Promise<T>,
  done: (name: string, result: T) => string,
): Promise<void> {
  const results: unknown[] = [];
  const failures: string[] = [];
  for (const name of names) {
    try {
      const result = await act(name);
      results.push(result);
      say(done(name, result));
    } catch (error) {
      if (!many || !(error instanceof ApiError)) throw error;
      failures.push(`${name}: ${error.message}`);
      results.push({ name, error: error.message, code: error.code, remedy: error.remedy });
    }
  }
  printJson(many ? results : results[0]);
  if (failures.length > 0)
    throw new CliError(`${failures.length} of ${names.length} failed\n${failures.join("\n")}`);
}
