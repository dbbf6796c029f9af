/** Notices images that were built or replaced beside the daemon (`bhatti host image`). */
import { mkdirSync, watch } from "node:fs";

/** An image comes in two renames (build.ts); both are over after this, ms. */
const SETTLE_MS = 500;

/** Calls `changed` after a manifest appeared or was replaced. Returns the function that stops. */
export function watchImages(dataDir: string, changed: () => void): () => void {
  const dir = `${dataDir}/images`;
  mkdirSync(dir, { recursive: true });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const watcher = watch(dir, (_event, file) => {
    if (!file?.endsWith(".json")) return;
    clearTimeout(timer);
    timer = setTimeout(changed, SETTLE_MS);
  });
  return () => {
    clearTimeout(timer);
    watcher.close();
  };
}
