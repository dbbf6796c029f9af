/** Builds dist/bhatti: one executable with the guest agent and the edge inside. Usage: bun packaging/build.ts [FILE] (after lohar/build.sh and edge/build.sh). */
const root = `${import.meta.dir}/..`;
const lohar = `${root}/dist/lohar`;
const edge = `${root}/dist/edge`;
const outfile = process.argv[2] ?? `${root}/dist/bhatti`;

const result = await Bun.build({
  entrypoints: [`${root}/src/main.ts`],
  minify: true,
  bytecode: true,
  // One chunk per lazily imported command: `bhatti version` must not load the daemon's code (docs/cli.md).
  splitting: true,
  format: "esm",
  compile: {
    outfile,
    // The program is run by root in folders of others: it obeys nothing that lies there. `bunfig.toml` could name code
    // (`preload`), `.env` another server. Held by test/security/current-folder.test.ts.
    autoloadBunfig: false,
    autoloadDotenv: false,
    autoloadTsconfig: false,
    autoloadPackageJson: false,
  },
  plugins: [
    {
      name: "embed-programs",
      setup(build) {
        build.onLoad({ filter: /embedded\.ts$/ }, () => ({
          loader: "ts",
          contents: `import lohar from ${JSON.stringify(lohar)} with { type: "file" };
import edge from ${JSON.stringify(edge)} with { type: "file" };
export const embedded = { lohar, edge };
`,
        }));
      },
    },
  ],
});
if (!result.success) {
  for (const log of result.logs) console.error(log);
  process.exit(1);
}

/**
 * Names by which the environment would turn the program into a bare Bun (`BUN_BE_BUN=1 bhatti run x.ts`) or put code in front
 * of it (`BUN_OPTIONS=--preload=x.ts`). There is no switch, so the runtime's copies of the names are made unreachable: a
 * sudoers rule for bhatti must not be one for everything. A Bun that does it otherwise fails the build.
 */
const binary = Buffer.from(await Bun.file(outfile).arrayBuffer());
for (const name of ["BUN_OPTIONS", "BUN_BE_BUN"]) {
  let found = 0;
  for (let at = binary.indexOf(name); at >= 0; at = binary.indexOf(name, at + 1)) {
    binary[at] = "=".charCodeAt(0);
    found++;
  }
  if (found === 0) throw new Error(`${name} is not in this Bun: look how it reads its environment`);
}
await Bun.write(outfile, binary);

export {};
