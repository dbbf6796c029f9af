/** argv → one command. Nothing is imported before the command is known: start-up time is a promise (docs/cli.md). */
async function main(argv: string[]): Promise<void> {
  if (argv.length === 1 && (argv[0] === "version" || argv[0] === "--version" || argv[0] === "-V")) {
    // Installers and prompts call this often; no parser, no configuration, no network.
    const { VERSION } = await import("./version.ts");
    const { writeSync } = await import("node:fs");
    writeSync(1, `bhatti ${VERSION}\n`);
    return;
  }
  if (argv[0] === "dns-resolver" && argv[1] !== undefined) {
    // Not a command: a process of the daemon (src/network/dns/resolver-process.ts).
    const { serveResolver } = await import("./network/dns/process.ts");
    await serveResolver(JSON.parse(argv[1]));
  }
  const { dispatch } = await import("./cli/dispatch.ts");
  await dispatch(argv);
}

main(process.argv.slice(2));
