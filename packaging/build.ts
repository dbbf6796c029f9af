/** Builds dist/bhatti: one executable with the guest agent inside. Usage: bun packaging/build.ts (after lohar/build.sh). */
const root = `${import.meta.dir}/..`;
const lohar = `${root}/dist/lohar`;

const result = await Bun.build({
  entrypoints: [`${root}/src/main.ts`],
  minify: true,
  bytecode: true,
  // One chunk per lazily imported command: `bhatti version` must not load the daemon's code (docs/cli.md).
  splitting: true,
  format: "esm",
  compile: { outfile: `${root}/dist/bhatti` },
  plugins: [
    {
      name: "embed-lohar",
      setup(build) {
        build.onLoad({ filter: /lohar-asset\.ts$/ }, () => ({
          loader: "ts",
          contents: `import path from ${JSON.stringify(lohar)} with { type: "file" };\nexport const embedded = path;\n`,
        }));
      },
    },
  ],
});
if (!result.success) {
  for (const log of result.logs) console.error(log);
  process.exit(1);
}

export {};
