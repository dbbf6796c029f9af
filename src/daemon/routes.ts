/** Every route of the API, as its nouns register them. */
import type { Hono } from "hono";
import { type EventRouteDeps, eventRoutes } from "../events/routes.ts";
import { processRoutes } from "../exec/processes.ts";
import { execRoutes } from "../exec/routes.ts";
import { execStreamRoutes } from "../exec/stream.ts";
import { filesRoutes } from "../files/routes.ts";
import { proxyRoutes } from "../ports/routes.ts";
import { publishRoutes } from "../publish/routes.ts";
import type { Publishing } from "../publish/service.ts";
import { sandboxRoutes } from "../sandboxes/routes.ts";
import type { Sandboxes } from "../sandboxes/service.ts";
import { secretRoutes } from "../secrets/routes.ts";
import type { Secrets } from "../secrets/service.ts";
import { snapshotRoutes } from "../snapshots/routes.ts";
import type { Snapshots } from "../snapshots/service.ts";
import type { AppEnv } from "../users/app-env.ts";
import { type UserRouteDeps, userRoutes } from "../users/routes.ts";
import { notYetRoutes } from "./not-yet.ts";
import { type StatusDeps, statusRoutes } from "./status-routes.ts";

export interface RouteDeps extends UserRouteDeps {
  sandboxes: Sandboxes;
  snapshots: Snapshots;
  secrets: Secrets;
  publishing: Publishing;
  events: EventRouteDeps;
  status: StatusDeps;
}

export const routes = (deps: RouteDeps): Hono<AppEnv>[] => [
  sandboxRoutes(deps),
  execStreamRoutes(deps),
  execRoutes(deps),
  processRoutes(deps),
  filesRoutes(deps),
  proxyRoutes(deps),
  publishRoutes(deps),
  snapshotRoutes(deps),
  secretRoutes(deps),
  userRoutes(deps),
  eventRoutes(deps.events),
  statusRoutes(deps.status),
  notYetRoutes(),
];
