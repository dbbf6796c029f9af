/** The wire's form of what a name in a guest stands for. */
import type { FileEntry } from "../guest/guest.ts";

export const entryView = (e: FileEntry) => ({
  name: e.name,
  ...(e.nameB64 === undefined ? {} : { name_b64: e.nameB64 }),
  kind: e.kind,
  ...(e.target === undefined ? {} : { target: e.target }),
  ...(e.targetB64 === undefined ? {} : { target_b64: e.targetB64 }),
  size: e.size,
  mode: e.mode,
  uid: e.uid,
  gid: e.gid,
  links: e.links,
  ...(e.device === undefined ? {} : { device: e.device }),
  is_dir: e.isDir,
  mtime: e.mtime,
});
