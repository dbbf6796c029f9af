/** Builds test/packet, a static program that sends and hears packets, once per version of its source. */
import { existsSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";

/** Path of the program. Needs Go. */
export function buildPacket(): string {
  const hash = new Bun.CryptoHasher("sha256");
  for (const file of ["main.go", "talk.go", "raw.go"])
    hash.update(readFileSync(`${import.meta.dir}/${file}`));
  const path = `${tmpdir()}/bhatti-packet-${hash.digest("hex").slice(0, 16)}`;
  if (existsSync(path)) return path;
  // Under another name first: several test processes may be at it.
  const own = `${path}.${process.pid}`;
  const { exitCode, stderr } = Bun.spawnSync(["go", "build", "-buildvcs=false", "-o", own, "."], {
    cwd: import.meta.dir,
    env: { ...process.env, CGO_ENABLED: "0", GOTOOLCHAIN: "auto" },
  });
  if (exitCode !== 0) throw new Error(`test/packet does not build: ${stderr}`);
  renameSync(own, path);
  return path;
}
