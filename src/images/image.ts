/** A root file system: `path` is its file, `digest` says what is in it. */
export interface Image {
  name: string;
  path: string;
  digest: string;
  sizeMb: number;
}

/** Root file systems by name. */
export interface ImageSource {
  /** Throws AppError not_found (unknown) or unavailable (file damaged). */
  resolve(name: string): Promise<Image>;
}
