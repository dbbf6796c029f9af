/** Where the server is and which key to show: flags, then environment, then files. */
import { homedir } from "node:os";
import { join } from "node:path";
import { invoker } from "../../lib/user-files.ts";
import { CliError } from "./errors.ts";
import { readOwn } from "./own-file.ts";

export interface Endpoint {
  url: string;
  token: string;
  /** What each came from, for messages: "--url", "BHATTI_URL", a file, "default". */
  urlFrom: string;
  tokenFrom: string;
}

interface Settings {
  api_url?: string;
  auth_token?: string;
  listen?: string;
  data_dir?: string;
}

const SYSTEM = "/etc/bhatti/config.yaml";

/** Home of the person at the keyboard: under sudo that is not root's. */
export const home = (): string => invoker()?.home || process.env.HOME || homedir();

/** The file `setup` writes. */
export function userConfigPath(): string {
  return process.env.BHATTI_CONFIG || join(home(), ".bhatti", "config.yaml");
}

/**
 * Files from the strongest to the weakest: BHATTI_CONFIG alone when it is set; else the user's, then the system's.
 * @throws CliError for a file that is broken, or a BHATTI_CONFIG that cannot be read. An absent file is fine, and so is
 * a system file only root may read.
 */
function* files(warn: (text: string) => void): Generator<[string, Settings]> {
  const explicit = process.env.BHATTI_CONFIG;
  for (const file of explicit ? [explicit] : [userConfigPath(), SYSTEM]) {
    let found: ReturnType<typeof readOwn>;
    try {
      found = readOwn(file);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (!explicit && (code === "ENOENT" || code === "ENOTDIR" || (code === "EACCES" && file === SYSTEM)))
        continue;
      if (cause instanceof CliError) throw cause;
      throw new CliError(`cannot read ${file}: ${code ?? cause}`, {
        code: "config",
        remedy: explicit ? "unset BHATTI_CONFIG or let it name a readable file" : `check who owns ${file}`,
        cause,
      });
    }
    const settings = parseSettings(file, found.text);
    // The system's file may well be readable by a group of operators.
    if (settings.auth_token && (found.mode & (file === SYSTEM ? 0o004 : 0o044)) !== 0)
      warn(`${file} holds an API key and other users can read it; run: chmod 600 ${file}`);
    yield [file, settings];
  }
}

/** @throws CliError when the text is not YAML or a value has the wrong type. */
export function parseSettings(file: string, text: string): Settings {
  let value: unknown;
  try {
    value = Bun.YAML.parse(text);
  } catch (cause) {
    // The parser's message may quote the text, which may be the key.
    throw new CliError(`${file} is not valid YAML`, {
      code: "config",
      remedy: `correct ${file}, or run: bhatti setup`,
      cause,
    });
  }
  if (value === null || value === undefined) return {};
  if (typeof value !== "object" || Array.isArray(value))
    throw new CliError(`${file} must hold "key: value" lines`, {
      code: "config",
      remedy: "run: bhatti setup",
    });
  const settings: Settings = {};
  for (const key of ["api_url", "auth_token", "listen", "data_dir"] as const) {
    const member = (value as Record<string, unknown>)[key];
    if (member === undefined || member === null) continue;
    if (typeof member !== "string")
      throw new CliError(`${file}: ${key} must be text`, {
        code: "config",
        remedy: `put quotes around the value of ${key}`,
      });
    settings[key] = member;
  }
  return settings;
}

const DEFAULT_URL = "http://localhost:8080";

/**
 * Resolves address and key. A key is for the server that its own source names (or, when it names none, the one that this
 * machine's file or the default does): an address from elsewhere never gets it. `keyless`: the request needs no key.
 * @throws CliError for broken configuration, or when address and key do not belong together.
 */
export function endpoint(
  flags: { url?: string; token?: string },
  warn: (text: string) => void = () => {},
  { keyless = false } = {},
): Endpoint {
  const sources: Source[] = [
    { name: "--url", keyName: "--token", url: flags.url, token: flags.token },
    {
      name: "BHATTI_URL",
      keyName: "BHATTI_TOKEN",
      url: process.env.BHATTI_URL,
      token: process.env.BHATTI_TOKEN,
    },
  ];
  // Files are only read when a flag or the environment does not say both.
  if (!sources.some(({ url, token }) => url && token) || !sources.find((s) => s.token)?.url)
    for (const [file, settings] of files(warn))
      sources.push({
        name: file,
        keyName: file,
        url: settings.api_url || (settings.listen && urlOfListen(settings.listen)),
        token: settings.auth_token,
      });
  const fallback = { name: "default", url: DEFAULT_URL };
  const { name: urlFrom, url: address } = sources.find((s) => s.url) ?? fallback;
  const url = checkUrl(address!, urlFrom);
  const holder = keyless ? undefined : sources.find((s) => s.token);
  if (!holder) return { url, token: "", urlFrom, tokenFrom: "none" };
  const own = holder.url ? holder : (sources.find((s) => s.name === SYSTEM && s.url) ?? fallback);
  if (new URL(checkUrl(own.url!, own.name)).origin !== new URL(url).origin)
    throw new CliError(
      `the key from ${holder.keyName} is not sent to ${url} (from ${urlFrom}): it belongs to ${own.url} (${own === holder ? holder.name : `${own.name}, as ${holder.keyName} comes without an address`})`,
      { code: "config", remedy: remedyFor(holder, urlFrom) },
    );
  return { url, token: holder.token!.trim(), urlFrom, tokenFrom: holder.keyName };
}

/** One place that may name an address, a key, or both. */
interface Source {
  name: string;
  keyName: string;
  url?: string;
  token?: string;
}

function remedyFor(holder: Source, urlFrom: string): string {
  if (holder.keyName === "--token") return "give both: --url and --token";
  if (holder.keyName === "BHATTI_TOKEN") return "set both: BHATTI_URL and BHATTI_TOKEN";
  if (urlFrom === "--url") return "give its key as well (--token), or keep both together: bhatti setup";
  return `set both, BHATTI_URL and BHATTI_TOKEN, or unset BHATTI_URL; or keep both together: bhatti setup`;
}

/** Directory of the database, for commands that open it: flag, then files, then the installed default. */
export function dataDir(flag: string | undefined): string {
  if (flag) return flag;
  for (const [, settings] of files(() => {})) if (settings.data_dir) return settings.data_dir;
  return "/var/lib/bhatti";
}

/** @throws CliError unless it is an http(s) URL without credentials, query or fragment. */
export function checkUrl(text: string, from: string): string {
  const trimmed = text.trim().replace(/\/+$/, "");
  const remedy = "write it like http://localhost:8080 or https://bhatti.example.com";
  if (!/^https?:\/\//.test(trimmed) || !URL.canParse(trimmed))
    throw new CliError(`"${trimmed}" (from ${from}) is not an http:// or https:// address`, {
      code: "config",
      remedy,
    });
  const url = new URL(trimmed);
  if (url.username || url.password || url.search || url.hash)
    throw new CliError(`the address from ${from} must not hold a user, a query or a fragment`, {
      code: "config",
      remedy,
    });
  return trimmed;
}

/** The daemon's own `listen` tells clients on the same host where it is. */
function urlOfListen(listen: string): string {
  const at = listen.lastIndexOf(":");
  const host = listen.slice(0, at);
  const any = host === "" || host === "0.0.0.0" || host === "[::]";
  return `http://${any ? "localhost" : host}:${listen.slice(at + 1)}`;
}
