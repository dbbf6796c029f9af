/** `bhatti host secret-key`: shows, changes or gives up the key of stored secrets. */
import { usage } from "../cli/base/errors.ts";
import { withDaemonOrDatabase } from "../cli/commands/user-store.ts";
import type { Config } from "../daemon/config.ts";
import { ageKeyFile } from "../daemon/files.ts";
import { migrations } from "../daemon/migrations.ts";
import { type KeyCommand, type KeyResult, keyCommand } from "../secrets/key-commands.ts";
import { Keyring } from "../secrets/keyring.ts";
import { SecretRows } from "../secrets/rows.ts";
import { Store } from "../store/store.ts";

/** Prints what was done. Throws CliError. */
export async function secretKey(config: Config, action = "show"): Promise<void> {
  if (action !== "show" && action !== "rotate" && action !== "forget")
    throw usage(`secret-key ${action}: show, rotate or forget is expected`);
  const command: KeyCommand = { op: "secret-key", action };
  const { file, recipients, stored, changed } = await withDaemonOrDatabase<KeyResult>(
    config.dataDir,
    command,
    async (database) => {
      const store = new Store(database, migrations);
      try {
        const rows = new SecretRows(store);
        const keyring = new Keyring(rows, ageKeyFile(config));
        if (action !== "forget") await keyring.open((text) => console.error(text));
        return await keyCommand(keyring, rows, command);
      } finally {
        store.close();
      }
    },
  );
  if (action === "rotate") console.log(`${changed} secrets are encrypted to a new key; the old one is gone`);
  if (action === "forget") console.log(`${changed} secrets that no key of ${file} opens were removed`);
  console.log(`key file:    ${file}`);
  console.log(`public key:  ${recipients.join(", ") || "none yet: the first secret makes one"}`);
  console.log(`secrets:     ${stored}`);
  if (recipients.length > 0 && action !== "forget")
    console.log("Keep a copy of the key file, apart from copies of the database: docs/secrets.md");
}
