import { statSync } from "node:fs";

/** What a file has on disk, bytes; 0 when it is not there. Shared blocks count. */
export const blocks = (path: string): number =>
  (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
