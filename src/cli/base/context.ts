import { Client } from "../../client/client.ts";
import { VERSION } from "../../version.ts";
import { type Endpoint, endpoint } from "./config.ts";
import { clean, notice, write } from "./output.ts";
import type { Globals } from "./program.ts";
import { interrupted } from "./signals.ts";

/** The client of a command, configured as flags, environment and files say. @throws CliError for broken configuration. */
export function connect(
  globals: Globals,
  options: { keyless?: boolean } = {},
): Client & { endpoint: Endpoint } {
  const where = endpoint(globals, notice, options);
  const client = new Client({
    url: where.url,
    token: where.token,
    signal: interrupted,
    userAgent: `bhatti/${VERSION}`,
    onAnswer: globals.timing
      ? (method, path, status, ms) => write(2, `${method} ${path}  ${status}  ${ms.toFixed(1)} ms\n`)
      : undefined,
    onWait: (error) => notice(`waiting for the server: ${clean(error.message)}`),
  });
  if (globals.timing) {
    const started = performance.now();
    process.on("exit", () =>
      write(
        2,
        `total: ${(performance.now() - started).toFixed(1)} ms (start-up before: ${started.toFixed(1)} ms)\n`,
      ),
    );
  }
  return Object.assign(client, { endpoint: where });
}
