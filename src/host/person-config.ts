/** `~/.bhatti/config.yaml` of root and of who called sudo: the installer saves the key there, a purge takes it away. */
import { type Account, readAs, removeAs, replaceAs } from "../lib/user-files.ts";

const configOf = (person: Account): string => `${person.home}/.bhatti/config.yaml`;

/** What stood there before, when it is for another server: its key was shown once, too. */
const keptOf = (person: Account): string => `${configOf(person)}.before-install`;

interface Settings {
  api_url?: unknown;
  auth_token?: unknown;
}

/** The key in the person's configuration, or "". */
export async function keyOf(person: Account): Promise<string> {
  try {
    const settings = Bun.YAML.parse(await readAs(person, configOf(person))) as Settings;
    return String(settings.auth_token ?? "");
  } catch {
    return "";
  }
}

/** A home that cannot be written is no reason to stop: the key was shown. */
export async function saveConfig(
  person: Account,
  url: string,
  token: string,
  note: (text: string) => void,
): Promise<void> {
  try {
    const before = await forAnother(person, url);
    if (before !== null) {
      await replaceAs(person, keptOf(person), before);
      note(`${configOf(person)} had the key of another server: kept as ${keptOf(person)}`);
    }
    const text = Bun.YAML.stringify({ api_url: url, auth_token: token }, null, 2);
    await replaceAs(person, configOf(person), `${text.trimEnd()}\n`);
  } catch (error) {
    note(`not saved for ${person.name}: ${(error as Error).message}`);
  }
}

/** Takes away what the installer saved, and puts back what stood there before. A configuration for another server stays. */
export async function forgetConfig(person: Account, url: string): Promise<void> {
  const before = await readAs(person, keptOf(person)).catch(() => null);
  if ((await forAnother(person, url)) !== null) return;
  if (before === null) return removeAs(person, `${person.home}/.bhatti`);
  await replaceAs(person, configOf(person), before);
  await removeAs(person, keptOf(person));
}

/** Text of a configuration with the key of another server than the one at `url` of this host; else null. */
async function forAnother(person: Account, url: string): Promise<string | null> {
  try {
    const text = await readAs(person, configOf(person));
    const { api_url, auth_token } = Bun.YAML.parse(text) as Settings;
    if (!auth_token || !api_url) return null;
    const at = new URL(String(api_url));
    const own = new URL(url);
    const here =
      [own.hostname, "localhost", "127.0.0.1", "[::1]"].includes(at.hostname) && at.port === own.port;
    return here ? null : text;
  } catch {
    return null;
  }
}
