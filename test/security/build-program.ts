/** Builds a Go program of this folder, static, once per version of its source: attackers inside a guest have no toolchain. */
import { existsSync, readdirSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { run } from "../../src/lib/run.ts";

/** Path of the program in `test/security/<name>`. Needs Go. */
export async function buildProgram(name: string): Promise<string> {
  const dir = `${import.meta.dir}/${name}`;
  const hash = new Bun.CryptoHasher("sha256");
  for (const file of readdirSync(dir).sort()) hash.update(await Bun.file(`${dir}/${file}`).bytes());
  const path = `${tmpdir()}/bhatti-${name}-${hash.digest("hex").slice(0, 16)}`;
  if (existsSync(path)) return path;
  // Under another name first: several test processes may be at it.
  const own = `${path}.${process.pid}`;
  const env = { CGO_ENABLED: "0", GOTOOLCHAIN: "auto" };
  await run(["go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", own, "."], { cwd: dir, env });
  renameSync(own, path);
  return path;
}
