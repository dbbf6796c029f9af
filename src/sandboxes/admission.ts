/** The moment a sandbox comes into being: caps, name, network plan, row and journal in one transaction. */
import { AppError, badRequest } from "../lib/errors.ts";
import { hex, newId } from "../lib/ids.ts";
import type { WaitingVm } from "../templates/vm-pool.ts";
import type { User } from "../users/user.ts";
import type { Admitted } from "./copies.ts";
import type { SandboxDeps } from "./deps.ts";
import type { SandboxRow } from "./rows.ts";
import { newMachineId } from "./transitions/create.ts";

/**
 * Throws limit_reached (429), bad_request (caps) or unauthorized (the user is gone). Releases the network plan when the row cannot be written.
 * `also` runs in the transaction that writes the row.
 */
export function admit(
  deps: SandboxDeps,
  user: User,
  want: Admitted,
  waiting?: WaitingVm | null,
  also?: (row: SandboxRow) => void,
): SandboxRow {
  checkCaps(user, want);
  const owner = { userId: user.id, subnetIndex: user.subnetIndex };
  const net = deps.network.plan(owner, waiting?.slot);
  const now = new Date().toISOString();
  const row: SandboxRow = {
    id: newId(),
    name: want.name ?? `${want.namePrefix}-${hex(3)}`,
    created_by: user.id,
    engine_id: waiting?.spec.id ?? newId(),
    status: "creating",
    reason: "created",
    image: want.image,
    cpus: want.cpus,
    memory_mb: want.memoryMb,
    disk_size_mb: want.diskSizeMb,
    labels: JSON.stringify(want.labels),
    keep_hot: want.keepHot ? 1 : 0,
    warm_after_s: want.warmAfterS,
    cold_after_s: want.coldAfterS,
    env: JSON.stringify(want.env),
    init: want.init,
    subnet_index: user.subnetIndex,
    slot: net.slot,
    uid: net.uid,
    netns: net.netns,
    address: net.address,
    gateway: net.gateway,
    kernel: want.kernel,
    fingerprint: "",
    token: "",
    machine_id: newMachineId(),
    agent_generation: 0,
    disk_file: "disk.0",
    mem_file: "mem.0",
    generation: 0,
    consumed: 1,
    frozen: 0,
    state_sha256: "",
    boot_id: deps.bootId,
    durable: 0,
    pid: 0,
    pid_start: 0,
    created_from: want.createdFrom,
    created_at: now,
    stopped_at: "",
    last_activity_at: now,
    last_error: "",
    last_end: "",
    unresponsive_since: "",
    unresponsive_why: "",
    on_unresponsive: want.onUnresponsive ?? "none",
    init_status: "",
    secrets: JSON.stringify(want.secrets),
  };
  try {
    deps.rows.store.transaction(() => {
      // A request may be older than its user's end: the key was asked before a body that came slowly. By now the subnet may
      // be another's, whose guests this one would stand among.
      if (!deps.rows.hasOwner(user.id, user.subnetIndex))
        throw new AppError("unauthorized", "your user was deleted", {
          remedy: "ask the server's operator for a new one: bhatti user create",
        });
      const count = deps.rows.count(user.id);
      if (count >= user.maxSandboxes) {
        throw new AppError("limit_reached", `sandbox limit reached (${count}/${user.maxSandboxes})`, {
          remedy: "destroy a sandbox you no longer need, or ask the operator for a higher limit",
        });
      }
      deps.rows.insert(row);
      deps.rows.begin(row.id, "create", "admitted");
      also?.(row);
    });
  } catch (error) {
    void deps.network.release(owner, net).catch((err) => deps.log.warn({ err }, "release of a plan failed"));
    throw error;
  }
  return row;
}

const CAP_REMEDY = "ask for less, or have the server's operator raise it: bhatti user limits";

/** Caps of the user, from the values that will be used, whatever their origin. */
function checkCaps(user: User, want: { cpus: number; memoryMb: number }): void {
  if (want.cpus > user.maxCpusPerSandbox) {
    throw badRequest(`max ${user.maxCpusPerSandbox} CPUs per sandbox`, CAP_REMEDY);
  }
  if (want.memoryMb > user.maxMemoryMbPerSandbox) {
    throw badRequest(`max ${user.maxMemoryMbPerSandbox} MB memory per sandbox`, CAP_REMEDY);
  }
}
