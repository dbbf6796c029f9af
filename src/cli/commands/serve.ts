import { Exit } from "../base/errors.ts";
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
    throw new Exit(await runDaemon(config));
  });
