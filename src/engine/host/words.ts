/** What a VMM and its guest said last, for errors and logs. */
import { consoleFile, EngineError, vmmLogFile } from "../engine.ts";
import { ringTail } from "../ring.ts";

/** Bytes: a guest that panics in a circle decides what they are and how often they go into the daemon's log. */
const LAST_WORDS = 16 << 10;

export function lastWords(dir: string): { stderrTail: string; consoleTail: string } {
  const tail = (path: string) => ringTail(path, LAST_WORDS).toString("utf8");
  return { stderrTail: tail(vmmLogFile(dir)), consoleTail: tail(consoleFile(dir)) };
}

/** An EngineError with the message of `cause` and what VMM and guest said. */
export function explain(dir: string, cause: unknown, message?: string): EngineError {
  const { stderrTail, consoleTail } = lastWords(dir);
  const text = message ?? (cause instanceof Error ? cause.message : String(cause));
  return new EngineError(text, `vmm: ${stderrTail}\nconsole: ${consoleTail}`, { cause });
}
