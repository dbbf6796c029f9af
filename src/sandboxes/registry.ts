/** The actors of this daemon, by id and by owner and name. */
import { notFound } from "../lib/errors.ts";
import type { Actor } from "./actor.ts";

export class Registry {
  private readonly byId = new Map<string, Actor>();

  add(actor: Actor): void {
    this.byId.set(actor.row.id, actor);
  }

  remove(actor: Actor): void {
    this.byId.delete(actor.row.id);
  }

  all(): Actor[] {
    return [...this.byId.values()];
  }

  /** By id first, then by name, only within the owner's own; sandboxes that come or go are invisible. */
  find(owner: string, ref: string): Actor | null {
    const direct = this.byId.get(ref);
    if (direct && direct.row.created_by === owner && visible(direct)) return direct;
    return this.all().find((a) => a.row.created_by === owner && a.row.name === ref && visible(a)) ?? null;
  }

  /** Throws not_found for a sandbox that was destroyed in the meantime. */
  byIdOrGone(id: string): Actor {
    const actor = this.byId.get(id);
    if (!actor) throw notFound();
    return actor;
  }

  get(owner: string, ref: string): Actor {
    const actor = this.find(owner, ref);
    if (!actor) throw notFound();
    return actor;
  }
}

export const visible = (actor: Actor): boolean =>
  !actor.gone && (actor.row.status === "running" || actor.row.status === "stopped");
