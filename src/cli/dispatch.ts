import { type CliError, EXIT, Exit, usage } from "./base/errors.ts";
import { report } from "./base/report.ts";
import { watchSignals } from "./base/signals.ts";
import { find } from "./table.ts";

/** Global flags that take a value: their value is not the command. */
const WITH_VALUE = new Set(["--url", "--token", "--data-dir"]);

/** Index of the command word in argv, -1 when there is none. */
export function commandIndex(argv: string[]): number {
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === "--") return -1;
    if (WITH_VALUE.has(word)) i++;
    else if (!word.startsWith("-")) return i;
  }
  return -1;
}

/** Runs one command line to its end and leaves the process with its status. */
export async function dispatch(argv: string[]): Promise<never> {
  watchSignals();
  let status = 0;
  try {
    status = await run(argv);
  } catch (error) {
    if (error instanceof Exit) process.exit(error.status);
    status = await report(error, argv);
    // Of exec's statuses the low ones are the remote command's.
    const word = argv[commandIndex(argv)] ?? "";
    if (status === EXIT.usage && find(word)?.name === "exec") status = EXIT.execFailed;
  }
  process.exit(status);
}

async function run(argv: string[]): Promise<number> {
  const at = commandIndex(argv);
  const word = argv[at];
  if (word === undefined) {
    const odd = argv.find((a) => a !== "--help" && a !== "-h" && a !== "--json");
    if (odd !== undefined && !argv.includes("--help") && !argv.includes("-h"))
      throw usage(`unknown flag ${odd}`, "see: bhatti --help");
    return (await import("./help.ts")).rootHelp();
  }
  const rest = [...argv.slice(0, at), ...argv.slice(at + 1)];
  if (word === "help") {
    const topic = rest.find((a) => !a.startsWith("-"));
    if (topic === undefined) return (await import("./help.ts")).rootHelp();
    return run([...rest, "--help"]);
  }
  const entry = find(word);
  if (!entry) throw await unknown(word);
  if (entry.raw) return entry.raw(rest);
  if (word === "exec" && at === 0 && rest.length > 1 && !rest[0]!.startsWith("-")) {
    const cmd = rest[1] === "--" ? rest.slice(2) : rest.slice(1);
    const plain = cmd.length > 0 && (rest[1] === "--" || !rest[1]!.startsWith("-"));
    if (plain) {
      // No flags: the parser is not needed, and its start-up would be most of what the call costs.
      await (await import("./commands/exec-run.ts")).execInSandbox(rest[0]!, cmd, { stdin: true });
      return 0;
    }
  }
  const { parse } = await import("./base/program.ts");
  const loaded = await entry.load!();
  await parse(loaded.command(), loaded.prepare?.(rest) ?? rest);
  return 0;
}

async function unknown(word: string): Promise<CliError> {
  const { similar } = await import("./help.ts");
  const near = similar(word);
  return usage(
    `unknown command "${word}"`,
    near.length > 0 ? `did you mean: ${near.map((n) => `bhatti ${n}`).join(", ")}?` : "see: bhatti --help",
  );
}
