/** Where the server is and which key to show: flags, then environment, then files. */
import { readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { CliError } from "./errors.ts";

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
export function home(): string {
  const name = process.env.SUDO_USER;
  if (name && name !== "root" && process.getuid?.() === 0) {
    try {
      const line = readFileSync("/etc/passwd", "utf8")
        .split("\n")
        .find((l) => l.startsWith(`${name}:`));
      const directory = line?.split(":")[5];
      if (directory) return directory;
    } catch {
      // no such file: fall through
    }
  }
  return process.env.HOME || homedir();
}

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
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (!explicit && (code === "ENOENT" || code === "ENOTDIR" || (code === "EACCES" && file === SYSTEM)))
        continue;
      throw new CliError(`cannot read ${file}: ${code ?? cause}`, {
        code: "config",
        remedy: explicit ? "unset BHATTI_CONFIG or let it name a readable file" : `check who owns ${file}`,
        cause,
      });
    }
    const settings = parseSettings(file, text);
    // The system's file may well be readable by a group of operators.
    if (settings.auth_token && (statSync(file).mode & (file === SYSTEM ? 0o004 : 0o044)) !== 0)
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

/** Resolves address and key, each on its own. Files are only read when something is still missing. */
export function endpoint(
  flags: { url?: string; token?: string },
  warn: (text: string) => void = () => {},
): Endpoint {
  let url = pick(["--url", flags.url], ["BHATTI_URL", process.env.BHATTI_URL]);
  let token = pick(["--token", flags.token], ["BHATTI_TOKEN", process.env.BHATTI_TOKEN]);
  let listen: [string, string] | undefined;
  if (!url || !token) {
    for (const [file, settings] of files(warn)) {
      url ??= pick([file, settings.api_url]);
      token ??= pick([file, settings.auth_token]);
      listen ??= pick([file, settings.listen]);
    }
  }
  url ??= listen ? [listen[0], urlOfListen(listen[1])] : ["default", "http://localhost:8080"];
  return {
    url: checkUrl(url[1], url[0]),
    token: token?.[1].trim() ?? "",
    urlFrom: url[0],
    tokenFrom: token?.[0] ?? "none",
  };
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

const pick = (...candidates: [string, string | undefined][]): [string, string] | undefined =>
  candidates.find((c): c is [string, string] => Boolean(c[1]));

/** The daemon's own `listen` tells clients on the same host where it is. */
function urlOfListen(listen: string): string {
  const at = listen.lastIndexOf(":");
  const host = listen.slice(0, at);
  const any = host === "" || host === "0.0.0.0" || host === "[::]";
  return `http://${any ? "localhost" : host}:${listen.slice(at + 1)}`;
}
