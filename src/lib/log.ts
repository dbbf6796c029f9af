/** Structured logs: JSON lines on stderr, with what could be a credential taken out. */
import pino, { type Logger } from "pino";

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
    pino.destination({ dest: 2, sync: true }),
  );
}
