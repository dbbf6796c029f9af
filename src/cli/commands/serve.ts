import { CliError, Exit } from "../base/errors.ts";
import { define } from "../base/program.ts";
import { releaseSignals } from "../base/signals.ts";

export const command = () =>
  define(
    "serve",
    "Run the daemon in the foreground. Configuration: /etc/bhatti/config.yaml, or BHATTI_CONFIG.",
    ["sudo bhatti serve", "sudo BHATTI_CONFIG=./bhatti.yaml bhatti serve"],
  ).action(async () => {
    const { loadConfig } = await import("../../daemon/load-config.ts");
    const config = loadConfig();
    releaseSignals();
    const { runDaemon } = await import("../../daemon/main.ts");
    const { AppError } = await import("../../lib/errors.ts");
    const status = await runDaemon(config).catch((error: unknown) => {
      if (!(error instanceof AppError)) throw error;
      throw new CliError(error.message, { code: error.code, remedy: error.remedy, cause: error });
    });
    throw new Exit(status);
  });
