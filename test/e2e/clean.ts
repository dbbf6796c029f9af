/** Removes what the end-to-end suites keep between runs: bun test/e2e/clean.ts */
import { removeBase } from "./harness.ts";

await removeBase();
