import type { SandboxView } from "../../client/sandboxes.ts";
import { clean, say } from "../base/output.ts";

/** What is told about a new sandbox, whatever it was made from. `how`: "created", "created from …". */
export function sayCreated(sandbox: SandboxView, how: string): void {
  const name = clean(sandbox.name);
  const disk = sandbox.disk_size_mb > 0 ? `, ${sandbox.disk_size_mb} MB disk` : "";
  say(`sandbox/${name} ${how} (${sandbox.cpus || 1} vCPU, ${sandbox.memory_mb || 1024} MB${disk})`);
  if (sandbox.ip) say(`  IP:    ${clean(sandbox.ip)}`);
  say(`  Run:   bhatti exec ${name} -- <command>`);
}
