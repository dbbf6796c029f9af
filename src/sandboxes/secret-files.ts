/**
 * Files of secrets in one guest: brought with every configure, and again when the owner changed one. They lie in the guest's
 * memory, never on its disk, and what the guest holds is always the whole set: a copy of another moment is put right by it.
 */
import { type Guest, GuestError } from "../guest/guest.ts";
import { badRequest } from "../lib/errors.ts";
import { refsOf } from "../secrets/reference.ts";
import type { SecretFile, SecretSource } from "../secrets/service.ts";
import type { SandboxRow } from "./rows.ts";

export interface Delivery {
  files: SecretFile[] | undefined;
  version: number;
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
  /** Version of the owner's secrets that the guest has; -1 = not known. */
  private delivered = -1;
  private refreshing: Promise<void> | null = null;

  constructor(private readonly actor: Receiver) {}

  private get given(): boolean {
    return refsOf(this.actor.row.secrets).some(({ path }) => path !== undefined);
  }

  /** For a configure; `delivered` tells that it has succeeded. `all`: also when there is none, so that older ones go. */
  async delivery(all: boolean): Promise<Delivery> {
    const { row, deps } = this.actor;
    const version = deps.secrets.version(row.created_by);
    const files = await deps.secrets.files(row.created_by, refsOf(row.secrets));
    return { files: files.length > 0 || all ? files : undefined, version };
  }

  took({ version }: Delivery, problems: string[]): void {
    this.delivered = version;
    this.problems = problems;
  }

  /** The same, for a sandbox that is being made: it is not served without what it was to be given. Throws bad_request. */
  mustTake(delivery: Delivery, problems: string[]): void {
    this.took(delivery, problems);
    if (problems.length > 0) throw badRequest(`secret file ${problems[0]}`);
  }

  /** The guest may have another set than the last one that was sent. */
  forget(): void {
    this.delivered = -1;
  }

  /** Before a request: what changed since is brought along. Single flight. */
  async fresh(): Promise<void> {
    while (this.stale()) {
      this.refreshing ??= this.refresh(this.actor.guest!).finally(() => {
        this.refreshing = null;
      });
      await this.refreshing;
    }
  }

  private stale(): boolean {
    const { row, deps } = this.actor;
    return row.secrets !== "[]" && this.delivered !== deps.secrets.version(row.created_by) && this.given;
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
