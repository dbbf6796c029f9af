/** Replaced at build time by a module that embeds the programs (packaging/build.ts). */
export const embedded: { lohar?: string; edge?: string } = {};
