/** Every route of the API, as its nouns describe them. */
import { eventOperations } from "../events/operations.ts";
import { execOperations } from "../exec/operations.ts";
import { fileOperations } from "../files/operations.ts";
import type { Operation } from "../http/openapi.ts";
import { portOperations } from "../ports/operations.ts";
import { publishOperations } from "../publish/operations.ts";
import { sandboxOperations } from "../sandboxes/operations.ts";
import { secretOperations } from "../secrets/operations.ts";
import { snapshotOperations } from "../snapshots/operations.ts";
import { userOperations } from "../users/operations.ts";

const statusOperations: Operation[] = [
  { method: "get", path: "/admin/status", summary: "Figures of the server; operators" },
];

export const operations: Operation[] = [
  ...userOperations,
  ...sandboxOperations,
  ...execOperations,
  ...fileOperations,
  ...portOperations,
  ...publishOperations,
  ...snapshotOperations,
  ...secretOperations,
  ...eventOperations,
  ...statusOperations,
];
