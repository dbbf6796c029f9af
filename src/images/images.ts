/** Root file systems: `<data>/images/<name>.ext4` with `<name>.json` beside it. */
import { existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { AppError, notFound } from "../lib/errors.ts";
import type { ImageSource } from "./image.ts";

export interface ImageManifest {
  name: string;
  distro: string;
  /** Size of the file, bytes. */
  size: number;
  sha256: string;
  built_at: string;
}

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$/;

export function createImages(dataDir: string): ImageSource & { list(): Promise<ImageManifest[]> } {
  const dir = `${dataDir}/images`;
  const manifestOf = async (name: string) =>
    JSON.parse(await readFile(`${dir}/${name}.json`, "utf8")) as ImageManifest;
  return {
    async resolve(name) {
      const path = `${dir}/${name}.ext4`;
      if (!NAME.test(name) || !existsSync(path))
        throw notFound(
          `image "${name}" not found`,
          "the server's operator builds images: bhatti host image; leave image out for minimal",
        );
      const damaged = (why: string) =>
        new AppError("unavailable", `image "${name}" is damaged: ${why}`, {
          remedy: `build it again on the server: bhatti host image ${name}`,
        });
      const manifest = await manifestOf(name).catch((error: NodeJS.ErrnoException) => {
        // Too many open files, say, is no damage.
        if (error.code !== undefined && error.code !== "ENOENT") throw error;
        throw damaged("its manifest cannot be read");
      });
      const facts = await stat(path);
      if (facts.size !== manifest.size) throw damaged("its size does not match");
      if (!(await looksLikeExt4(path))) throw damaged("it is not an ext4 file system");
      return { name, path, digest: manifest.sha256, sizeMb: Math.ceil(manifest.size / 1048576) };
    },
    async list() {
      const names = (await readdir(dir).catch(() => []))
        .filter((file) => file.endsWith(".ext4"))
        .map((file) => file.slice(0, -5));
      const found = await Promise.all(names.map((name) => manifestOf(name).catch(() => null)));
      return found.filter((manifest) => manifest !== null);
    },
  };
}

/** Magic number of ext2/3/4 superblocks: 0xEF53 at byte 1080. */
async function looksLikeExt4(path: string): Promise<boolean> {
  const magic = new Uint8Array(await Bun.file(path).slice(1080, 1082).arrayBuffer());
  return magic[0] === 0x53 && magic[1] === 0xef;
}
