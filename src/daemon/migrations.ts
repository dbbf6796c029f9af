/** Every table of the product; the server's local commands open the database with the same list. */
import { eventMigrations } from "../events/event-log.ts";
import { publishMigrations } from "../publish/rows.ts";
import { idempotencyMigrations } from "../sandboxes/idempotency.ts";
import { sandboxMigrations } from "../sandboxes/migrations.ts";
import { secretMigrations } from "../secrets/rows.ts";
import { snapshotMigrations } from "../snapshots/rows.ts";
import { userMigrations } from "../users/users.ts";

export const migrations = [
  ...userMigrations,
  ...eventMigrations,
  ...sandboxMigrations,
  ...idempotencyMigrations,
  ...snapshotMigrations,
  ...secretMigrations,
  ...publishMigrations,
];
