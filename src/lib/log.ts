/** Structured logs: JSON lines on stderr, with what could be a credential taken out. */
import { writeSync } from "node:fs";
import pino, { type Logger } from "pino";

/** A full disk or a reader that went away costs lines, never the daemon. */
function write(line: string): void {
  const bytes = Buffer.from(line);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(2, bytes, at);
  } catch {}
}

export function createLog(level: string): Logger {
  return pino(
    {
      level,
      base: undefined,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: ["token", "*.token", "authorization", "*.authorization", "key", "*.key", "env", "*.env"],
        censor: "[redacted]",
      },
    },
    { write },
  );
}
