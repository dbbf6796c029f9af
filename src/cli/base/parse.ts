/** Values of flags. Each throws a usage error that names the flag and shows a right value. */
import { usage } from "./errors.ts";

export function integer(flag: string, min: number, max = Number.MAX_SAFE_INTEGER) {
  return (text: string): number => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw usage(
        `${flag}: "${text}" is not a whole number ${max < 1e9 ? `from ${min} to ${max}` : `of at least ${min}`}`,
      );
    return value;
  };
}

/** "512" (MiB), "512M", "2G", "1T" → MiB. */
export function mebibytes(flag: string) {
  return (text: string): number => {
    const match = /^(\d+(?:\.\d+)?)\s*(?:([mgt])(?:i?b)?)?$/i.exec(text.trim());
    const factor = { m: 1, g: 1024, t: 1024 * 1024 }[(match?.[2] ?? "m").toLowerCase()] ?? 1;
    const value = Number(match?.[1]) * factor;
    if (!match || !Number.isInteger(value) || value < 1)
      throw usage(`${flag}: "${text}" is not a size; write 512 (MiB), 512M or 2G`);
    return value;
  };
}

/** "30" (s), "90s", "10m", "2h", "1d", "never" (0) → seconds, at most `max` (a year). */
export function seconds(flag: string, max = 31_536_000) {
  return (text: string): number => {
    if (text === "never") return 0;
    const match = /^(\d+)(s|m|h|d)?$/.exec(text.trim());
    if (!match) throw usage(`${flag}: "${text}" is not a duration; write 30s, 10m, 2h, 1d or never`);
    const value =
      Number(match[1]) * { s: 1, m: 60, h: 3600, d: 86_400 }[(match[2] ?? "s") as "s" | "m" | "h" | "d"];
    if (value > max) throw usage(`${flag}: "${text}" is too long: at most ${max / 86_400}d`);
    return value;
  };
}

/** "2h" ago, a date (UTC) or an RFC 3339 time → RFC 3339. */
export function since(flag: string, now = Date.now()) {
  return (text: string): string => {
    const ago = /^(\d+(?:\.\d+)?)(s|m|h|d)$/.exec(text);
    if (ago)
      return new Date(
        now - Number(ago[1]) * 1000 * { s: 1, m: 60, h: 3600, d: 86_400 }[ago[2] as "s" | "m" | "h" | "d"],
      ).toISOString();
    const day = /^\d{4}-\d\d-\d\d$/.test(text);
    const bare = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?$/.test(text);
    const full = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(text);
    const at = new Date(day ? `${text}T00:00:00Z` : bare ? `${text}Z` : text);
    if (!(day || bare || full) || Number.isNaN(at.getTime()))
      throw usage(`${flag}: "${text}" is not a time; write 2h, 2026-05-02 or 2026-05-02T10:00:00Z`);
    return at.toISOString();
  };
}

/** A name that was meant to be given: "" is what an unset variable of a script leaves of it. */
export function filled(flag: string) {
  return (text: string): string => {
    if (text === "")
      throw usage(
        `${flag} is empty`,
        "leave it out, and the server finds a name; or is a variable of a script not set?",
      );
    return text;
  };
}

/** Gathers a repeatable flag. */
export const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];

/** "k=v" pairs; later ones win. An empty value is allowed, an empty key is not. */
export function pairs(flag: string, list: string[] = []): Record<string, string> {
  const map: Record<string, string> = {};
  for (const text of list) {
    const at = text.indexOf("=");
    if (at < 1) throw usage(`${flag}: "${text}" must be key=value`);
    map[text.slice(0, at)] = text.slice(at + 1);
  }
  return map;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * --env values. "A=1,B=2" sets two variables, as it always did; a comma that no `NAME=` follows belongs to the value.
 */
export function environment(flag: string, list: string[] = []): Record<string, string> {
  const map = pairs(
    flag,
    list.flatMap((text) => text.split(/,(?=[A-Za-z_][A-Za-z0-9_]*=)/)),
  );
  for (const name of Object.keys(map))
    if (!NAME.test(name)) throw usage(`${flag}: "${name}" is not a name of an environment variable`);
  return map;
}

/** An env file: NAME=value lines taken literally, '#' comments, blank lines. */
export function envFile(flag: string, content: string): Record<string, string> {
  const map: Record<string, string> = {};
  content.split(/\r?\n/).forEach((line, i) => {
    if (line.trim() === "" || line.trimStart().startsWith("#")) return;
    const at = line.indexOf("=");
    if (!NAME.test(line.slice(0, Math.max(at, 0)))) throw usage(`${flag}: line ${i + 1} is not NAME=value`);
    map[line.slice(0, at)] = line.slice(at + 1);
  });
  return map;
}

/** "local:guest[:mode]" of --file. */
export function fileMapping(text: string): { local: string; guest: string; mode: string } {
  const match = /^([^:]+):(\/[^:]*)(?::([0-7]{3,4}))?$/.exec(text);
  if (!match) throw usage(`--file: "${text}" must be local:/absolute/guest/path or local:/guest/path:0755`);
  return { local: match[1]!, guest: match[2]!, mode: (match[3] ?? "0644").padStart(4, "0") };
}

/** --secret values: names, or VARIABLE=name; several may stand between commas. */
export function secretVariables(list: string[] = []): (string | { name: string; env: string })[] {
  return list
    .flatMap((text) => text.split(","))
    .map((text) => {
      const at = text.indexOf("=");
      const [env, name] = at < 0 ? [text, text] : [text.slice(0, at), text.slice(at + 1)];
      if (!NAME.test(env) || !NAME.test(name))
        throw usage(`--secret: "${text}" must be the name of a secret, or VARIABLE=name`);
      return env === name ? name : { name, env };
    });
}

/** "name[:path[:mode[:owner]]]" of --secret-file. */
export function secretFiles(
  list: string[] = [],
): { name: string; path: string; mode?: string; owner?: string }[] {
  return list.map((text) => {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)(?::(\/[^:]*)(?::([0-7]{3,4})(?::(.+))?)?)?$/.exec(text);
    if (!match)
      throw usage(`--secret-file: "${text}" must be name, name:/absolute/path, …:0440 or …:0440:user:group`);
    const [, name = "", path = `/run/secrets/${name}`, mode, owner] = match;
    return { name, path, mode, owner };
  });
}

/** Octal permission bits such as 644 or 0755 → four digits. */
export function mode(flag: string) {
  return (text: string): string => {
    if (!/^[0-7]{3,4}$/.test(text)) throw usage(`${flag}: "${text}" is not an octal mode such as 0644`);
    return text.padStart(4, "0");
  };
}
