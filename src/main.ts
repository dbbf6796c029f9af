/** argv → one command. Nothing is imported before the command is known: start-up time is a promise (docs/cli.md). */
async function main(argv: string[]): Promise<void> {
  if (argv.length === 1 && (argv[0] === "version" || argv[0] === "--version" || argv[0] === "-V")) {
    // Installers and prompts call this often; no parser, no configuration, no network.
    const { VERSION } = await import("./version.ts");
    const { writeSync } = await import("node:fs");
    writeSync(1, `bhatti ${VERSION}\n`);
    return;
  }
  const { dispatch } = await import("./cli/dispatch.ts");
  await dispatch(argv);
}

main(process.argv.slice(2));
