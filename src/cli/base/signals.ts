import { EXIT } from "./errors.ts";

const controller = new AbortController();
const cleanups = new Set<() => void>();

/** Fires at Ctrl-C and SIGTERM; every request hangs on it. */
export const interrupted: AbortSignal = controller.signal;

/** Synchronous work to do before a signal ends the process: remove a temporary file, restore the terminal. Returns the way to withdraw it. */
export function onInterrupt(cleanup: () => void): () => void {
  cleanups.add(cleanup);
  return () => cleanups.delete(cleanup);
}

/**
 * Ctrl-C, SIGTERM and SIGHUP end the process at once with 128 + number. Closing the connections is what cancels the work
 * on the server, exec's remote command included.
 */
export function watchSignals(): void {
  for (const [signal, status] of [
    ["SIGINT", EXIT.interrupted],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const)
    process.on(signal, () => {
      controller.abort();
      for (const cleanup of cleanups) {
        try {
          cleanup();
        } catch {
          // one failure must not keep the others from running
        }
      }
      process.exit(status);
    });
}

/** `serve` stops in its own order: gives the signals back. */
export function releaseSignals(): void {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.removeAllListeners(signal);
}
