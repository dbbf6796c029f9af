import { openSync, readSync } from "node:fs";
import { CliError, Exit } from "./errors.ts";
import { isTty, write } from "./output.ts";
import { onInterrupt } from "./signals.ts";

/** A line from the terminal, without its end; undefined at end of input. */
async function line(): Promise<string | undefined> {
  for await (const text of console) return text;
  return undefined;
}

/** @throws CliError when there is nobody to ask. */
export async function ask(question: string, fallback = ""): Promise<string> {
  requireTerminal("an answer is needed", "give it as a flag; see --help");
  write(2, fallback ? `${question} [${fallback}]: ` : `${question}: `);
  return (await line())?.trim() || fallback;
}

/** Like `ask`, without echo: one line. `missing` and `remedy`: for who has no terminal. */
export function askSecret(question: string, missing: string, remedy: string): string {
  requireTerminal(missing, remedy);
  const fd = openSync("/dev/tty", "r");
  const stty = (...args: string[]) =>
    Bun.spawnSync(["stty", ...args], { stdin: fd, stdout: "ignore", stderr: "ignore" });
  const restore = () => {
    stty("echo");
  };
  const withdraw = onInterrupt(restore);
  write(2, `${question}: `);
  stty("-echo");
  try {
    const buffer = Buffer.alloc(4096);
    const count = readSync(fd, buffer);
    return buffer.toString("utf8", 0, count).trim();
  } finally {
    restore();
    withdraw();
    write(2, "\n");
  }
}

/**
 * Asks before something is lost. `yes`: the flag that answers already.
 * @throws CliError when nobody can be asked, Exit(1) when the answer is no.
 */
export async function confirm(question: string, yes: boolean | undefined): Promise<void> {
  if (yes) return;
  requireTerminal("aborted: this needs a confirmation", "add --yes to do it without asking");
  write(2, `${question} [y/N]: `);
  const answer = ((await line()) ?? "").trim().toLowerCase();
  if (answer === "y" || answer === "yes") return;
  write(2, "aborted\n");
  throw new Exit(1);
}

function requireTerminal(message: string, remedy: string): void {
  if (!isTty(0)) throw new CliError(message, { code: "not_confirmed", remedy });
}
