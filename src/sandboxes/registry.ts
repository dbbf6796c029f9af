/** The actors of this daemon: by id, by owner, by owner and name. */
import type { Actor } from "./actor.ts";
import { sandboxNotFound } from "./refusals.ts";

/** What is looked at; an Actor. */
export type Registered = Pick<Actor, "gone"> & {
  row: Pick<Actor["row"], "id" | "created_by" | "name" | "status">;
};

export class Registry<A extends Registered = Actor> {
  private readonly byId = new Map<string, A>();
  private readonly owners = new Map<string, Set<A>>();
  /** Names are unique per owner in the database; the last one added wins while another goes. */
  private readonly names = new Map<string, A>();

  add(actor: A): void {
    const { id, created_by, name } = actor.row;
    this.byId.set(id, actor);
    const own = this.owners.get(created_by) ?? new Set();
    this.owners.set(created_by, own.add(actor));
    this.names.set(keyOf(created_by, name), actor);
  }

  remove(actor: A): void {
    const { id, created_by, name } = actor.row;
    this.byId.delete(id);
    const own = this.owners.get(created_by);
    own?.delete(actor);
    if (own?.size === 0) this.owners.delete(created_by);
    this.forget(actor, name);
  }

  /** After the row's name was changed. */
  renamed(actor: A, before: string): void {
    this.forget(actor, before);
    this.names.set(keyOf(actor.row.created_by, actor.row.name), actor);
  }

  /** Everything there is; nothing is copied. */
  all(): MapIterator<A> {
    return this.byId.values();
  }

  get size(): number {
    return this.byId.size;
  }

  /** The owner's own. */
  of(owner: string): Iterable<A> {
    return this.owners.get(owner) ?? [];
  }

  /** The owner's sandbox of that name; one that comes or goes is invisible. */
  byName(owner: string, name: string): A | null {
    const actor = this.names.get(keyOf(owner, name));
    return actor && visible(actor) ? actor : null;
  }

  /** By id first, then by name, only within the owner's own. */
  find(owner: string, ref: string): A | null {
    const direct = this.byId.get(ref);
    if (direct && direct.row.created_by === owner && visible(direct)) return direct;
    return this.byName(owner, ref);
  }

  /** Throws not_found for a sandbox that was destroyed in the meantime. */
  byIdOrGone(id: string): A {
    const actor = this.byId.get(id);
    if (!actor) throw sandboxNotFound(id);
    return actor;
  }

  /** Throws not_found. */
  get(owner: string, ref: string): A {
    const actor = this.find(owner, ref);
    if (!actor) throw sandboxNotFound(ref);
    return actor;
  }

  private forget(actor: A, name: string): void {
    const key = keyOf(actor.row.created_by, name);
    if (this.names.get(key) === actor) this.names.delete(key);
  }
}

/** Ids of users hold no slash. */
const keyOf = (owner: string, name: string): string => `${owner}/${name}`;

export const visible = (actor: Registered): boolean =>
  !actor.gone && (actor.row.status === "running" || actor.row.status === "stopped");
