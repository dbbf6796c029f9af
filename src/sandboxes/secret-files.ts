/**
 * Files of secrets in one guest: brought with every configure, and again when the owner changed one. They lie in the guest's
 * memory, never on its disk, and what the guest holds is always the whole set: a copy of another moment is put right by it.
 */
import { type Guest, GuestError } from "../guest/guest.ts";
import { badRequest } from "../lib/errors.ts";
import { refsOf } from "../secrets/reference.ts";
import type { SecretFile, SecretSource } from "../secrets/service.ts";
import type { SandboxRow } from "./rows.ts";

/** A set on its way, and the moment that it is of. */
export interface Delivery {
  files: SecretFile[] | undefined;
  moment: string;
}

/** Of an actor what is needed here. */
interface Receiver {
  readonly row: Pick<SandboxRow, "name" | "created_by" | "secrets" | "agent_generation">;
  readonly guest: Guest | null;
  readonly deps: { secrets: SecretSource };
}

export class SecretFiles {
  /** What the guest could not do, for people. */
  problems: string[] = [];
  /** Moment of the set that the guest has; "" = not known. */
  private delivered = "";
  /** The guest has files: when none is given any more, it is told. */
  private has = false;
  /** Grows with every change of what is given. */
  private changes = 0;
  private refreshing: Promise<void> | null = null;

  constructor(private readonly actor: Receiver) {}

  private get moment(): string {
    const { row, deps } = this.actor;
    return `${deps.secrets.version(row.created_by)}.${this.changes}`;
  }

  private get given(): boolean {
    const { secrets } = this.actor.row;
    return secrets !== "[]" && refsOf(secrets).some(({ path }) => path !== undefined);
  }

  /** For a configure; `took` tells that it has succeeded. `all`: also when there is none, so that older ones go. */
  async delivery(all: boolean): Promise<Delivery> {
    const { row, deps } = this.actor;
    const moment = this.moment;
    const files = await deps.secrets.files(row.created_by, refsOf(row.secrets));
    return { files: files.length > 0 || all ? files : undefined, moment };
  }

  took({ files = [], moment }: Delivery, problems: string[]): void {
    this.delivered = moment;
    this.has = files.length > 0;
    this.problems = problems;
  }

  /** The same, for a sandbox that is being made: it is not served without what it was to be given. Throws bad_request. */
  mustTake(delivery: Delivery, problems: string[]): void {
    this.took(delivery, problems);
    if (problems.length > 0) throw badRequest(`secret file ${problems[0]}`);
  }

  /** The sandbox is given others, or the guest may have another set than the last one that was sent. */
  changed(): void {
    this.changes++;
  }

  /** Whether the guest has another set than it should. */
  get due(): boolean {
    return (this.given || this.has) && this.delivered !== this.moment;
  }

  /** Before a request: what changed since is brought along. Single flight. */
  async fresh(): Promise<void> {
    while (this.actor.guest && this.due) {
      this.refreshing ??= this.refresh(this.actor.guest).finally(() => {
        this.refreshing = null;
      });
      await this.refreshing;
    }
  }

  private async refresh(guest: Guest): Promise<void> {
    const delivery = await this.delivery(true);
    try {
      this.took(delivery, await guest.secrets(this.actor.row.agent_generation, delivery.files ?? []));
    } catch (error) {
      // An agent from before there were secrets runs until the next boot.
      const older = error instanceof GuestError && error.code === "bad_request";
      if (!older) throw error;
      this.took(delivery, [`files need a newer agent: bhatti restart ${this.actor.row.name}`]);
    }
  }
}
