import { bold, write } from "./base/output.ts";
import { COMMANDS } from "./table.ts";

/** Help of the program itself, on stdout. Returns the exit status. */
export function rootHelp(): number {
  const visible = COMMANDS.filter((c) => !c.hidden);
  const width = Math.max(...visible.map((c) => c.name.length)) + 2;
  const groups = [...new Set(visible.map((c) => c.group))].map((title) => {
    const lines = visible
      .filter((c) => c.group === title)
      .map(
        (c) => `  ${c.name.padEnd(width)}${c.summary}${c.aliases ? ` (also: ${c.aliases.join(", ")})` : ""}`,
      );
    return `${bold(`${title}:`)}\n${lines.join("\n")}`;
  });
  write(
    1,
    `bhatti: a real Linux machine for every agent, CI job and person

${bold("Usage:")} bhatti <command> [options]

${bold("Quick start:")}
  bhatti setup                          save address and key
  bhatti create dev                     a machine of your own
  bhatti exec dev -- uname -a           run something in it
  echo hello | bhatti exec dev -- cat   stdin goes along
  bhatti destroy dev                    and away

${groups.join("\n\n")}

${bold("Global options:")}
  --url <url>      address of the server (BHATTI_URL)
  --token <key>    API key (BHATTI_TOKEN)
  --json           one JSON value on stdout, errors as JSON on stderr
  --timing         times of every request, on stderr

bhatti <command> --help shows the options of a command, with examples.
`,
  );
  return 0;
}

/** Commands within two edits of the word, or that it is the beginning of. */
export function similar(word: string): string[] {
  const names = COMMANDS.filter((c) => !c.hidden).flatMap((c) => [c.name, ...(c.aliases ?? [])]);
  return names.filter(
    (name) =>
      (word.length > 1 && name.startsWith(word)) || distance(word, name) <= Math.min(2, name.length - 1),
  );
}

/** Levenshtein distance. Words of the command line are short; longer ones are far from everything. */
export function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}
