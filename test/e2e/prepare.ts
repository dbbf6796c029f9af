/** Makes what all suites with VMs share, test file system, kernel and image, so that none of them pays for it in its own time. */
import { prepareBase } from "./harness.ts";

await prepareBase(console.log);
