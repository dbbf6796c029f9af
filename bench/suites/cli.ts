/** Start-up of the command line against an empty program. */
import { mkdirSync, writeFileSync } from "node:fs";
import { program, repeat, root, type Suite } from "../stage.ts";

export const cli: Suite = {
  name: "cli",
  async run(stage) {
    const { table, n } = stage;
    const empty = "/tmp/bhatti-bench/empty";
    mkdirSync("/tmp/bhatti-bench", { recursive: true });
    writeFileSync(`${empty}.ts`, "");
    const flags = ["--compile", "--bytecode", "--minify", `${empty}.ts`, "--outfile", empty];
    const built = Bun.spawnSync([process.execPath, "build", ...flags]);
    if (built.exitCode !== 0) throw new Error(`the empty program does not build: ${built.stderr}`);
    await program(stage, empty);
    // In turns, so that the noise of the machine falls on both alike.
    const turns = { empty: [] as number[], version: [] as number[] };
    await repeat(n, async () => {
      turns.empty.push(await program(stage, empty));
      turns.version.push(await program(stage, `${root}/dist/bhatti`, "version"));
      return 0;
    });
    table.add("floor: empty compiled program", turns.empty);
    table.add("bhatti version", turns.version);
  },
};
