/** Builds test/packet, a static program that sends and hears packets, once per version of its source. */
import { existsSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { run } from "../../src/lib/run.ts";

/** Path of the program. Needs Go. */
export async function buildPacket(): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const file of ["main.go", "talk.go", "raw.go"])
    hash.update(await Bun.file(`${import.meta.dir}/${file}`).text());
  const path = `${tmpdir()}/bhatti-packet-${hash.digest("hex").slice(0, 16)}`;
  if (existsSync(path)) return path;
  // Under another name first: several test processes may be at it.
  const own = `${path}.${process.pid}`;
  await run(["go", "build", "-buildvcs=false", "-o", own, "."], {
    cwd: import.meta.dir,
    env: { CGO_ENABLED: "0", GOTOOLCHAIN: "auto" },
  });
  renameSync(own, path);
  return path;
}
