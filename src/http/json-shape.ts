/** How complicated a JSON text may be. A megabyte of brackets or members costs the parser, and the schemas behind it, far more
 *  of the daemon's only thread than one of plain text. */

const MAX_DEPTH = 32;
/** Values in all: more than the longest command line with its environment and files has. */
const MAX_VALUES = 20_000;

/** What is wrong with the shape of a text that may be JSON, or null. One pass; what stands inside strings does not count. */
export function shapeProblem(text: string): string | null {
  let depth = 0;
  let values = 1;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (inString) {
      if (c === 0x5c) i++;
      else if (c === 0x22) inString = false;
    } else if (c === 0x22) inString = true;
    else if (c === 0x2c) {
      if (++values > MAX_VALUES) return `more than ${MAX_VALUES} values`;
    } else if (c === 0x7b || c === 0x5b) {
      if (++depth > MAX_DEPTH) return `nested more than ${MAX_DEPTH} deep`;
    } else if (c === 0x7d || c === 0x5d) depth--;
  }
  return null;
}
