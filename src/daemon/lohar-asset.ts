/** Replaced at build time by a module that embeds the binary (packaging/build.ts). */
export const embedded: string | undefined = undefined;
