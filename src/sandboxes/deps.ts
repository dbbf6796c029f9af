/** What the composition root hands to the life of sandboxes. */
import type { Logger } from "pino";
import type { Engine, KernelFiles } from "../engine/engine.ts";
import type { Events } from "../events/events.ts";
import type { Guest } from "../guest/guest.ts";
import type { ImageSource } from "../images/image.ts";
import type { Semaphore } from "../lib/semaphore.ts";
import type { Network } from "../network/network.ts";
import type { SecretSource } from "../secrets/service.ts";
import type { MemoryPool } from "../storage/memory-pool.ts";
import type { Storage } from "../storage/storage.ts";
import type { Templates } from "../templates/templates.ts";
import type { VmPool } from "../templates/vm-pool.ts";
import type { StorageQuota } from "../users/storage-quota.ts";
import type { MemoryBudget } from "./memory.ts";
import type { SandboxRows } from "./rows.ts";

/** Installed kernels; a stopped VM keeps the one it was started with. */
export interface Kernels {
  current(): KernelFiles;
  /** Throws when it is no longer installed. */
  get(version: string): KernelFiles;
  /** The image of its modules; also for a kernel that is missing. */
  modules(version: string): string | undefined;
}

/** Counters and histograms; see events/metrics.ts. */
export interface SandboxMetrics {
  wake(from: "warm" | "cold" | "boot", ms: number): void;
  transition(name: string, ms: number): void;
  create(from: string, ms: number): void;
}

/** What sandboxes need of the daemon's configuration. */
export interface SandboxConfig {
  dataDir: string;
  /** Seconds; 0 = never. */
  warmAfterS: number;
  coldAfterS: number;
  /** Largest disk, MiB. */
  maxDiskMb: number;
  /** How often a hot sandbox is asked whether it answers, seconds; 0 = never. */
  probeEveryS: number;
  templates: { image: string; cpus: number; memoryMb: number }[];
}

export interface SandboxDeps {
  rows: SandboxRows;
  engine: Engine;
  kernels: Kernels;
  network: Network;
  storage: Storage;
  images: ImageSource;
  templates: Templates;
  pool: VmPool;
  events: Events;
  metrics: SandboxMetrics;
  memory: MemoryBudget;
  memoryPool: MemoryPool;
  quota: Pick<StorageQuota, "take">;
  wakes: Semaphore;
  secrets: SecretSource;
  log: Logger;
  config: SandboxConfig;
  /** /proc/sys/kernel/random/boot_id */
  bootId: string;
  /** `onSilence`: a call failed because nothing was heard. */
  connectGuest(address: string, token: string, onSilence?: () => void): Guest;
}
