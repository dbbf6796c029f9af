/** A process that changes the key once, for tests that kill it: rotate.fixture.ts DATABASE KEYFILE. */
import { migrations } from "../daemon/migrations.ts";
import { Store } from "../store/store.ts";
import { Keyring } from "./keyring.ts";
import { SecretRows } from "./rows.ts";

const [database = "", file = ""] = process.argv.slice(2);
const keyring = new Keyring(new SecretRows(new Store(database, migrations)), file);
await keyring.open();
await keyring.rotate();
