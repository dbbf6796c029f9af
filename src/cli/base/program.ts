/** How every command is declared and parsed, with commander behind it. */
import { Command, CommanderError, Option } from "commander";
import { Exit, usage } from "./errors.ts";
import { setJson, write } from "./output.ts";

export interface Globals {
  url?: string;
  token?: string;
  dataDir?: string;
  json?: boolean;
  timing?: boolean;
}

/** A command with the global flags, strict arguments and examples below its help. `usage` starts with its name. */
export function define(usageLine: string, summary: string, examples: string[]): Command {
  const [name, ...args] = usageLine.split(" ");
  const command = new Command(name).description(summary).summary(summary.split(/[.:;]/, 1)[0] ?? "");
  for (const argument of args) if (argument !== "") command.argument(argument);
  return prepare(command, examples);
}

/** A word with sub-commands. */
export function group(name: string, summary: string, children: Command[], examples: string[]): Command {
  const command = prepare(new Command(name).description(summary), examples);
  for (const child of children) command.addCommand(child);
  // Without it an unknown sub-command would be an excess argument of the action above.
  // All that follows it is taken as well: it is the word that is wrong, not how many come after it.
  command.argument("[command...]").helpCommand(false);
  command.usage("<command> [options]");
  command.allowUnknownOption();
  command.action((words: string[]) => {
    const [word] = words;
    if (word === undefined) {
      command.outputHelp();
      throw new Exit(0);
    }
    if (word.startsWith("-")) throw usage(`unknown option '${word}'`, `see: bhatti ${name} --help`);
    const names = children.map((c) => c.name()).join(", ");
    throw usage(`unknown command "${name} ${word}"`, `there are: ${names}`);
  });
  return command;
}

function prepare(command: Command, examples: string[]): Command {
  return command
    .exitOverride()
    .configureOutput({
      writeOut: (text) => write(1, text),
      writeErr: () => {},
      outputError: () => {},
      getOutHelpWidth: () => process.stdout.columns || 100,
    })
    .configureHelp({ sortOptions: false })
    .helpOption("-h, --help", "show this help")
    .addHelpText("after", () => `\nExamples:\n${examples.map((e) => `  $ ${e}`).join("\n")}\n`);
}

/** Last, so that help shows them last; on every level, so that they may stand anywhere. */
function declareGlobals(command: Command): void {
  // The help of a group is a list of its commands; they tell of the global options themselves.
  const isGroup = command.commands.length > 0;
  command.optionsGroup("Global options:");
  for (const [flags, text] of GLOBALS) command.addOption(new Option(flags, text).hideHelp(isGroup));
  for (const child of command.commands) declareGlobals(child);
}

const GLOBALS = [
  ["--url <url>", "address of the server (BHATTI_URL)"],
  ["--token <key>", "API key (BHATTI_TOKEN is safer: a command line is visible to other users)"],
  ["--json", "one JSON value on stdout, errors as JSON on stderr"],
  ["--timing", "times of every request, on stderr"],
] as const;

/** Runs the command line. @throws CliError for what commander does not accept (status 2), Exit after help. */
export async function parse(command: Command, args: string[]): Promise<void> {
  declareGlobals(command);
  command.name(`bhatti ${command.name()}`);
  try {
    await command.parseAsync(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) throw new Exit(0);
    const [message, ...more] = error.message.replace(/^error: /, "").split("\n");
    throw usage(
      message ?? "wrong arguments",
      more.length > 0 ? more.join(" ").replace(/^\(|\)$/g, "") : `see: ${command.name()} --help`,
    );
  }
}

/** The options of a command and of the group around it; switches --json on. */
export function options<T>(command: Command): T & Globals {
  const all = command.optsWithGlobals<T & Globals>();
  setJson(all.json === true);
  return all;
}
