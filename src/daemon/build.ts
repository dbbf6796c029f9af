/** The composition root: builds every part and hands each the narrow interfaces it needs. Nothing else knows them all. */
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { Logger } from "pino";
import { createEngine } from "../engine/choose.ts";
import { createEvents } from "../events/event-log.ts";
import { createMetrics } from "../events/metrics.ts";
import { eventMigrations } from "../events/migrations.ts";
import { createGuestClient } from "../guest/client.ts";
import { createImages } from "../images/images.ts";
import { createKernels } from "../kernel/kernels.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { createNetwork } from "../network/create.ts";
import { GUEST } from "../network/network.ts";
import type { SandboxDeps } from "../sandboxes/deps.ts";
import { MemoryBudget } from "../sandboxes/memory.ts";
import { sandboxMigrations } from "../sandboxes/migrations.ts";
import { SandboxRows } from "../sandboxes/rows.ts";
import { SandboxService } from "../sandboxes/sandboxes.ts";
import { SnapshotRows, snapshotMigrations } from "../snapshots/rows.ts";
import { SnapshotService } from "../snapshots/snapshots.ts";
import { createStorage } from "../storage/create.ts";
import { Store } from "../store/store.ts";
import { TemplateBuilder } from "../templates/builder.ts";
import { Templates } from "../templates/templates.ts";
import { createUsers, userMigrations } from "../users/users.ts";
import type { Config } from "./config.ts";

/** Every table of the product; the CLI's local commands open the database with the same list. */
export const migrations = [
  ...userMigrations,
  ...eventMigrations,
  ...sandboxMigrations,
  ...snapshotMigrations,
];
