/** Secrets over their rows and keys: set, list, delete, and what sandboxes are given. */
import type { Events } from "../events/events.ts";
import { AppError, badRequest, conflict, notFound } from "../lib/errors.ts";
import type { User } from "../users/user.ts";
import type { Keyring } from "./keyring.ts";
import { MAX_REFS, SECRET_NAME, SECRET_NAME_RULE, type SecretRef } from "./reference.ts";
import type { SecretRow, SecretRows } from "./rows.ts";
import { seal, unseal } from "./seal.ts";
import {
  type ListedSecret,
  MAX_ENV_BYTES,
  MAX_FILE_BYTES,
  MAX_VALUE,
  type SecretFile,
  type SecretSource,
  type Secrets,
  type SecretUsers,
  type SecretView,
} from "./service.ts";

/** Values kept open in memory: opening one takes a millisecond, and an exec may need many. */
const MAX_OPEN = 256;

export interface SecretDeps {
  rows: SecretRows;
  keyring: Keyring;
  sandboxes: SecretUsers;
  events: Events;
}

export class SecretService implements Secrets, SecretSource {
  private readonly versions = new Map<string, number>();
  private readonly opened = new Map<string, { sealed: Uint8Array; value: Buffer }>();

  constructor(private readonly deps: SecretDeps) {}

  async set(user: User, name: string, value: Uint8Array): Promise<SecretView> {
    const { rows } = this.deps;
    if (!SECRET_NAME.test(name)) throw badRequest(`invalid secret name: ${SECRET_NAME_RULE}`);
    if (value.length === 0) throw badRequest("name and value required");
    if (value.length > MAX_VALUE)
      throw new AppError("too_large", `a secret has at most ${MAX_VALUE} bytes, this one ${value.length}`, {
        remedy: "encrypt larger data with a key, and keep the key here",
      });
    const isText = isPlainText(value);
    const row = await this.deps.keyring
      .encrypting(async ({ recipient }) => {
        const sealed = await seal(recipient, { userId: user.id, name }, value);
        return rows.store.transaction(() => {
          const old = rows.find(user.id, name);
          if (!old) this.assertRoom(user);
          this.assertFits(user.id, name, value.length, isText);
          const now = new Date().toISOString();
          const row: SecretRow = {
            user_id: user.id,
            name,
            value: sealed,
            recipient,
            bytes: value.length,
            is_text: isText ? 1 : 0,
            created_at: old?.created_at ?? now,
            updated_at: now,
          };
          rows.put(row);
          return row;
        });
      })
      .catch(forTenants);
    await this.changed(user, name, "secret.set");
    return viewOf(row);
  }

  list(user: User): ListedSecret[] {
    const given = this.deps.sandboxes.given(user.id);
    return this.deps.rows
      .of(user.id)
      .map((row) => ({ ...viewOf(row), used_by: given.filter(names(row.name)).map(({ name }) => name) }));
  }

  async delete(user: User, name: string): Promise<{ used_by: string[] }> {
    if (!this.deps.rows.delete(user.id, name))
      throw notFound(`secret "${name}" not found`, "bhatti secret list shows your secrets");
    await this.changed(user, name, "secret.deleted");
    return {
      used_by: this.deps.sandboxes
        .given(user.id)
        .filter(names(name))
        .map((one) => one.name),
    };
  }

  version(userId: string): number {
    return this.versions.get(userId) ?? 0;
  }

  assertUsable(userId: string, refs: readonly SecretRef[]): void {
    const { rows } = this.deps;
    for (const { name, env } of refs) {
      const row = rows.find(userId, name);
      if (!row) throw badRequest(`secret "${name}" not found`, `bhatti secret set ${name}`);
      if (env !== undefined && row.is_text === 0) throw badRequest(notText(name), asFile(name));
    }
    this.assertTogether(userId, refs);
  }

  assertTogether(userId: string, refs: readonly SecretRef[]): void {
    if (refs.length > MAX_REFS) throw badRequest(`a sandbox is given at most ${MAX_REFS} secrets`);
    const problem = tooMuch(refs, (name) => this.deps.rows.find(userId, name)?.bytes ?? 0);
    if (problem) throw badRequest(problem);
  }

  async environment(userId: string, refs: readonly SecretRef[]): Promise<Record<string, string>> {
    const env: Record<string, string> = {};
    for (const ref of refs) {
      const value = ref.env === undefined ? null : await this.open(userId, ref.name);
      if (value) env[ref.env!] = value.toString("utf8");
    }
    return env;
  }

  async files(userId: string, refs: readonly SecretRef[]): Promise<SecretFile[]> {
    const files: SecretFile[] = [];
    for (const { name, path, mode = "0400", owner = "" } of refs) {
      const value = path === undefined ? null : await this.open(userId, name);
      if (value) files.push({ path: path!, content: value.toString("base64"), mode, owner });
    }
    return files;
  }

  /** null when there is no such secret (any more). */
  private async open(userId: string, name: string): Promise<Buffer | null> {
    // In one moment: a rotation changes both.
    const row = this.deps.rows.find(userId, name);
    const { keys } = this.deps.keyring;
    const key = `${userId}/${name}`;
    if (!row) {
      this.opened.delete(key);
      return null;
    }
    const known = this.opened.get(key);
    if (known && Buffer.compare(known.sealed, row.value) === 0) return known.value;
    const value = await unseal(keys, { userId, name }, row.value);
    this.opened.delete(key);
    this.opened.set(key, { sealed: row.value, value });
    if (this.opened.size > MAX_OPEN) this.opened.delete(this.opened.keys().next().value!);
    return value;
  }

  private async changed(user: User, name: string, type: string): Promise<void> {
    this.opened.delete(`${user.id}/${name}`);
    this.versions.set(user.id, this.version(user.id) + 1);
    this.deps.events.record({ type, userId: user.id, meta: { name } });
    await this.deps.sandboxes.changed(user.id, name);
  }

  /** In the transaction that adds one. */
  private assertRoom(user: User): void {
    const { rows } = this.deps;
    const max = rows.maxOf(user.id);
    if (max === null)
      throw new AppError("unauthorized", "your user was deleted", {
        remedy: "ask the server's operator for a new one: bhatti user create",
      });
    const count = rows.count(user.id);
    if (count >= max)
      throw new AppError("limit_reached", `secret limit reached (${count}/${max})`, {
        remedy:
          "bhatti secret delete <name> makes room; the server's operator can raise it: bhatti user limits",
      });
  }

  /** Whether every sandbox that is given this secret can take the new value. */
  private assertFits(userId: string, name: string, bytes: number, isText: boolean): void {
    const { rows, sandboxes } = this.deps;
    for (const { name: sandbox, refs } of sandboxes.given(userId).filter(names(name))) {
      if (!isText && refs.some((ref) => ref.name === name && ref.env !== undefined))
        throw conflict(`${notText(name)}, but sandbox "${sandbox}" has it as one`, asFile(name));
      const problem = tooMuch(refs, (other) =>
        other === name ? bytes : (rows.find(userId, other)?.bytes ?? 0),
      );
      if (problem) throw conflict(`sandbox "${sandbox}" cannot take it: ${problem}`);
    }
  }
}

/** What is wrong with the server's key is its operator's business: the log has it. */
function forTenants(error: unknown): never {
  if (!(error instanceof AppError) || error.code !== "unavailable") throw error;
  throw new AppError("unavailable", "this server cannot store secrets at the moment", {
    cause: error,
    remedy: "the server's operator: bhatti doctor --security, and the log",
  });
}

const names = (name: string) => (one: { refs: SecretRef[] }) => one.refs.some((ref) => ref.name === name);

const notText = (name: string) =>
  `the value of secret "${name}" is no text: it cannot be an environment variable`;
const asFile = (name: string) => `as a file it can be anything: --secret-file ${name}:/path`;

function tooMuch(refs: readonly SecretRef[], bytesOf: (name: string) => number): string | null {
  let env = 0;
  let files = 0;
  for (const ref of refs) {
    if (ref.env !== undefined) env += bytesOf(ref.name);
    if (ref.path !== undefined) files += bytesOf(ref.name);
  }
  if (env > MAX_ENV_BYTES) return `secrets as variables have more than ${MAX_ENV_BYTES} bytes together`;
  if (files > MAX_FILE_BYTES) return `secrets as files have more than ${MAX_FILE_BYTES} bytes together`;
  return null;
}

/** UTF-8 without NUL. */
function isPlainText(value: Uint8Array): boolean {
  if (value.includes(0)) return false;
  try {
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(value);
    return true;
  } catch {
    return false;
  }
}

const viewOf = ({ name, created_at, updated_at }: SecretRow): SecretView => ({
  name,
  created_at,
  updated_at,
});
