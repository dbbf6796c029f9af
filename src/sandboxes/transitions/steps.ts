/** Helpers that every transition shares: journal steps with fault points, the trace line, identity of the agent. */
import { chown } from "node:fs/promises";
import type { ConfigureRequest, Guest } from "../../guest/guest.ts";
import { faultPoint } from "../../lib/fault.ts";
import { Trace } from "../../lib/trace.ts";
import { refsOf } from "../../secrets/reference.ts";
import type { Actor } from "../actor.ts";
import type { Op, SandboxRow } from "../rows.ts";

/** How long the agent may take to acknowledge its identity after a restore, ms. */
export const CONFIGURE_MS = 30_000;

export class Transition {
  readonly trace = new Trace();

  constructor(
    private readonly actor: Actor,
    readonly op: Op,
  ) {}

  /** Opens the journal entry together with the change of the row that announces the transition. */
  begin(patch: Partial<SandboxRow> = {}, detail: Record<string, unknown> = {}): void {
    const { rows } = this.actor.deps;
    rows.store.transaction(() => {
      rows.begin(this.actor.row.id, this.op, "begin", detail);
      rows.update(this.actor.row, patch);
    });
    this.reached("begin");
  }

  /** Commits a step that recovery must know about, with the change of the row that belongs to it. */
  commit(step: string, patch: Partial<SandboxRow>, detail: Record<string, unknown> = {}): void {
    const { rows } = this.actor.deps;
    rows.store.transaction(() => {
      rows.begin(this.actor.row.id, this.op, step, detail);
      rows.update(this.actor.row, patch);
    });
    this.reached(step);
  }

  /** Closes the journal entry. */
  end(patch: Partial<SandboxRow> = {}): void {
    const { rows } = this.actor.deps;
    rows.store.transaction(() => {
      rows.update(this.actor.row, patch);
      rows.end(this.actor.row.id);
    });
    this.reached("end");
  }

  /** A place between commits: named for the trace and for fault tests. */
  reached(step: string): void {
    this.trace.step(step);
    const pid = this.actor.vm?.process.pid ?? this.actor.row.pid;
    faultPoint(`${this.op}:${step}`, () => pid && process.kill(pid, "SIGKILL"));
  }

  /** The one log line of a transition that succeeded. */
  log(extra: Record<string, unknown> = {}): void {
    const ms = this.trace.total();
    this.actor.deps.metrics.transition(this.op, ms);
    this.actor.deps.log.info(
      { sandbox: this.actor.row.id, transition: this.op, ms, steps: this.trace.steps, ...extra },
      "transition",
    );
  }
}

/** Connects to the agent with the token it holds now. */
export function connect(actor: Actor): Guest {
  actor.guest?.disconnect();
  const { address, token } = actor.row;
  const guest = actor.deps.connectGuest(address, token, () => actor.health.suspect());
  actor.guest = guest;
  return guest;
}

/** What every configure call carries. */
export function identity(
  actor: Actor,
  kind: ConfigureRequest["kind"],
  token = actor.row.token,
): ConfigureRequest {
  const { row } = actor;
  return {
    kind,
    generation: row.agent_generation,
    token,
    hostname: row.name,
    machineId: kind === "wake" ? undefined : row.machine_id,
    resolver: ["169.254.77.1"],
    search: ["internal"],
    env: kind === "wake" ? undefined : (JSON.parse(row.env) as Record<string, string>),
    growRoot: true,
  };
}

/** What the init script has beside the environment of all: its secrets. */
export async function initOf({ row, deps }: Actor): Promise<Pick<ConfigureRequest, "init" | "initEnv">> {
  if (!row.init) return {};
  return { init: row.init, initEnv: await deps.secrets.environment(row.created_by, refsOf(row.secrets)) };
}

/** Hands a file to the VMM's user, nobody else. */
export async function giveTo(uid: number, path: string): Promise<void> {
  await chown(path, uid, uid);
}

/** Free space of the data's file system without which no machine is made, bytes: what its first moments write. */
export const DISK_GROWTH = 64 << 20;
