/** Publishing over its rows: names, who may see what, links. */
import { randomBytes } from "node:crypto";
import type { Events } from "../events/events.ts";
import { AppError, badRequest, conflict, notFound } from "../lib/errors.ts";
import { hex } from "../lib/ids.ts";
import type { Sandboxes } from "../sandboxes/service.ts";
import type { User } from "../users/user.ts";
import { LINK_PARAMETER, sign } from "./access.ts";
import { aliasProblem, generateAlias } from "./alias.ts";
import type { PublishRow, PublishRows } from "./rows.ts";
import type { Published, PublishedPort, PublishInput, Publishing, Visibility } from "./service.ts";
import type { Traffic } from "./traffic.ts";
import type { Urls } from "./urls.ts";

export interface PublishDeps {
  rows: PublishRows;
  sandboxes: Pick<Sandboxes, "get">;
  urls: Urls;
  traffic: Traffic;
  events: Events;
  /** Published ports a user may have; null when there is no such user any more. */
  maxOf(userId: string): number | null;
}

const MAX_PASSWORD = 1024;

export class PublishService implements Publishing {
  constructor(private readonly deps: PublishDeps) {}

  async publish(user: User, ref: string, input: PublishInput): Promise<Published> {
    const { rows, events } = this.deps;
    const sandbox = this.deps.sandboxes.get(user, ref);
    const { port } = input;
    if (input.alias !== undefined) {
      const problem = aliasProblem(input.alias, this.deps.urls.ownLabels);
      if (problem) throw badRequest(problem, "choose another, or leave it out and one is made");
    }
    const passwordHash = await hashOf(input);
    const row = rows.store.transaction((): PublishRow | null => {
      // Looked up again: it may have gone while the password was hashed.
      this.deps.sandboxes.get(user, sandbox.id);
      if (rows.find(sandbox.id, port)) return null;
      if (input.alias !== undefined && rows.byAlias(input.alias))
        throw conflict(`alias "${input.alias}" is already taken`, "choose another, or leave it out");
      this.assertRoom(user);
      const row: PublishRow = {
        id: `pub_${hex(8)}`,
        sandbox_id: sandbox.id,
        user_id: user.id,
        port,
        alias: input.alias ?? generateAlias(sandbox.name),
        visibility: input.visibility ?? "public",
        password_hash: passwordHash,
        key: randomBytes(32),
        created_at: new Date().toISOString(),
      };
      rows.insert(row);
      return row;
    });
    if (row) {
      const { alias, visibility } = row;
      events.record({
        type: "publish.created",
        userId: user.id,
        sandboxId: sandbox.id,
        meta: { port, alias, visibility },
      });
      return { rule: this.view(row, sandbox.name), existing: false, differs: [] };
    }
    return this.existing(user, sandbox, input, passwordHash);
  }

  /** The port is published: its name stays, its visibility becomes what was asked for. */
  private existing(
    user: User,
    sandbox: { id: string; name: string },
    input: PublishInput,
    passwordHash: string,
  ): Published {
    const row = this.mustFind(sandbox.id, input.port);
    if (input.visibility !== undefined && (input.visibility !== row.visibility || passwordHash !== "")) {
      row.visibility = input.visibility;
      row.password_hash = passwordHash;
      this.renew(row);
      this.deps.events.record({
        type: "publish.changed",
        userId: user.id,
        sandboxId: sandbox.id,
        meta: { port: row.port, alias: row.alias, visibility: row.visibility },
      });
    }
    const differs = input.alias !== undefined && input.alias !== row.alias ? ["alias"] : [];
    return { rule: this.view(row, sandbox.name), existing: true, differs };
  }

  list(user: User, ref: string, stats = false): PublishedPort[] {
    const { id, name } = this.deps.sandboxes.get(user, ref);
    return this.deps.rows.ofSandbox(id).map((row) => this.view(row, name, stats));
  }

  listAll(user: User, stats = false): PublishedPort[] {
    return this.deps.rows.ofUser(user.id).flatMap((row) => {
      try {
        return [this.view(row, this.deps.sandboxes.get(user, row.sandbox_id).name, stats)];
      } catch (error) {
        if (error instanceof AppError && error.code === "not_found") return []; // destroyed meanwhile
        throw error;
      }
    });
  }

  unpublish(user: User, ref: string, port: number): void {
    const { id } = this.deps.sandboxes.get(user, ref);
    const row = this.deps.rows.find(id, port);
    if (!row || !this.deps.rows.delete(row.id))
      throw notFound(`no publish rule for port ${port} on this sandbox`, `bhatti publish list ${ref}`);
    this.deps.traffic.cut(
      row.id,
      notFound(`nothing is published as "${row.alias}"`, "ask whoever gave you the address"),
    );
    this.deps.events.record({
      type: "publish.deleted",
      userId: user.id,
      sandboxId: id,
      meta: { port, alias: row.alias },
    });
  }

  share(user: User, ref: string, port: number, seconds: number): { url: string; expires_at: string } {
    const { id } = this.deps.sandboxes.get(user, ref);
    const row = this.mustFind(id, port);
    const expires = Math.floor(Date.now() / 1000 + seconds) * 1000;
    const url = `${this.deps.urls.of(row.alias).url}/?${LINK_PARAMETER}=${sign(row, expires)}`;
    return { url, expires_at: new Date(expires).toISOString() };
  }

  revoke(user: User, ref: string, port: number): void {
    const { id } = this.deps.sandboxes.get(user, ref);
    const row = this.mustFind(id, port);
    this.renew(row);
  }

  private renew(row: PublishRow): void {
    row.key = randomBytes(32);
    this.deps.rows.setVisibility(row);
    if (row.visibility !== "public")
      this.deps.traffic.cut(row.id, new AppError("forbidden", "the access to this page was taken back"));
  }

  private mustFind(sandboxId: string, port: number): PublishRow {
    const row = this.deps.rows.find(sandboxId, port);
    if (row) return row;
    throw notFound(
      `no publish rule for port ${port} on this sandbox`,
      `publish it first: bhatti publish <sandbox> -p ${port}`,
    );
  }

  private assertRoom(user: User): void {
    const max = this.deps.maxOf(user.id);
    if (max !== null && this.deps.rows.count(user.id) < max) return;
    throw new AppError("limit_reached", `you have published ${max ?? 0} ports, which is your limit`, {
      remedy: "bhatti unpublish one, or ask the operator: bhatti user limits",
    });
  }

  private view(row: PublishRow, sandbox: string, stats = false): PublishedPort {
    const { id, sandbox_id, user_id, port, alias, created_at, visibility } = row;
    return {
      ...{ id, sandbox_id, user_id, port, alias, created_at },
      ...this.deps.urls.of(alias),
      sandbox,
      visibility,
      ...(stats ? { stats: this.deps.traffic.stats(row.id) } : {}),
    };
  }
}

/** "" without a password. Throws bad_request where one is missing or of no use. */
async function hashOf({
  visibility,
  password,
}: {
  visibility?: Visibility;
  password?: string;
}): Promise<string> {
  if (visibility !== "password") {
    if (password !== undefined) throw badRequest('a password needs "visibility":"password"');
    return "";
  }
  if (!password) throw badRequest("a password is needed");
  if (Buffer.byteLength(password) > MAX_PASSWORD)
    throw badRequest(`a password has at most ${MAX_PASSWORD} bytes`);
  return Bun.password.hash(password, { algorithm: "argon2id", memoryCost: 19_456, timeCost: 2 });
}
