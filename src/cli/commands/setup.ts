import { Client } from "../../client/client.ts";
import { ApiError } from "../../client/error.ts";
import { CommandError } from "../../lib/run.ts";
import { invoker, readAs, replaceAs } from "../../lib/user-files.ts";
import { VERSION } from "../../version.ts";
import { checkUrl, endpoint, home, userConfigPath } from "../base/config.ts";
import { CliError, usage } from "../base/errors.ts";
import { clean, isTty, notice, printJson, say } from "../base/output.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";
import { ask, askSecret } from "../base/prompt.ts";
import { interrupted } from "../base/signals.ts";

interface Flags {
  apiUrl?: string;
  tokenStdin?: boolean;
  verify: boolean;
}

export const command = () =>
  define(
    "setup",
    "Save the server's address and your API key for later calls, after trying them out. Asks for what is not given.",
    [
      "bhatti setup",
      "bhatti setup --api-url https://bhatti.example.com --token-stdin < key.txt",
      "bhatti setup --api-url http://localhost:8080 --token bht_…",
    ],
  )
    .option("--api-url <url>", "address of the server (same as --url)")
    .option("--token-stdin", "read the API key from stdin")
    .option("--no-verify", "save without asking the server")
    .action(async (_flags, self) => {
      const flags = options<Flags>(self);
      const fromEnvironment =
        flags.token === undefined && !flags.tokenStdin && Boolean(process.env.BHATTI_TOKEN);
      const url = await address(flags.apiUrl ?? flags.url, fromEnvironment);
      const token = await key(flags.token, flags.tokenStdin === true);
      if (!/^[\x21-\x7e]+$/.test(token)) throw usage("the API key is empty or holds characters no key has");
      if (url.startsWith("http://") && !/^http:\/\/(localhost|127\.|\[::1\])/.test(url))
        notice(`${url} is not encrypted: whoever is in between can read the key`);
      const user = flags.verify ? await verify(url, token) : undefined;
      const file = await save(url, token);
      if (printJson({ file, api_url: url, verified: flags.verify, user })) return;
      if (user !== undefined) say(`authenticated as ${clean(user)}`);
      say(`Saved to ${file}`);
      for (const name of ["BHATTI_URL", "BHATTI_TOKEN"])
        if (process.env[name]) notice(`${name} is set and wins over the file`);
    });

/** `silentKey`: the key comes from the environment, so an address that nobody typed must go with it. */
async function address(given: string | undefined, silentKey: boolean): Promise<string> {
  if (given !== undefined) return checkUrl(given, "--api-url");
  let current = "http://localhost:8080";
  try {
    current = endpoint({}, undefined, { keyless: isTty(0) || !silentKey }).url;
  } catch (error) {
    if (silentKey && !isTty(0)) throw error;
    // a broken file is about to be replaced
  }
  return isTty(0) ? checkUrl(await ask("API endpoint", current), "your answer") : current;
}

async function key(given: string | undefined, fromStdin: boolean): Promise<string> {
  if (given !== undefined && fromStdin) throw usage("--token and --token-stdin exclude each other");
  if (given !== undefined) return given.trim();
  if (fromStdin) return (await Bun.stdin.text()).trim();
  return (
    process.env.BHATTI_TOKEN?.trim() ||
    askSecret("API key", "an API key is needed", "pipe it to --token-stdin, or set BHATTI_TOKEN")
  );
}

/** Name of the key's owner. @throws CliError when the server refuses the key; nothing was saved then. */
async function verify(url: string, token: string): Promise<string> {
  const client = new Client({ url, token, signal: interrupted, userAgent: `bhatti/${VERSION}` });
  try {
    const me = await withSpinner("asking the server", () => client.admin.me());
    return String(me.name ?? me.id ?? "?");
  } catch (error) {
    if (error instanceof ApiError && error.status === 401)
      throw new CliError(`${url} does not accept this key; nothing was saved`, {
        code: "unauthorized",
        remedy: "check the key; a new one: bhatti user rotate-key <name>, on the server",
      });
    if (!(error instanceof ApiError && error.status === 404)) throw error;
    // A server without /me.
    return `${(await client.sandboxes.list()).length} sandboxes' owner`;
  }
}

/** Replaces the two settings, keeps all others; under sudo all of it as the person whose home it is. */
async function save(url: string, token: string): Promise<string> {
  const file = userConfigPath();
  const person = (!process.env.BHATTI_CONFIG && invoker()) || {
    name: "you",
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    home: home(),
  };
  let settings: Record<string, unknown> = {};
  try {
    const parsed: unknown = Bun.YAML.parse(await readAs(person, file));
    if (typeof parsed === "object" && parsed !== null) settings = parsed as Record<string, unknown>;
  } catch {
    // absent or broken
  }
  const text = Bun.YAML.stringify({ ...settings, api_url: url, auth_token: token }, null, 2);
  try {
    await replaceAs(person, file, `${text.trimEnd()}\n`);
  } catch (cause) {
    const why = cause instanceof CommandError ? cause.stderr.trim().split("\n").at(-1) : cause;
    throw new CliError(`cannot write ${file} as ${person.name}: ${why}`, { cause });
  }
  return file;
}
