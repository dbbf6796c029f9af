/**
 * Fault points: named places where a test makes this process die, or an operation fail, to prove that recovery works.
 * Dead code unless BHATTI_FAULT_FILE is set. The file holds `<action> <point>`; it is removed when it fires (once).
 * Actions: `kill` (SIGKILL to this process), `throw` (an Error), `enospc` (an ENOSPC error), `vmm` (calls `onVmm`).
 */
import { existsSync, readFileSync, rmSync } from "node:fs";

const file = process.env.BHATTI_FAULT_FILE;

/** Announces that execution is at `point`. */
export function faultPoint(point: string, onVmm?: () => void): void {
  if (file === undefined || !existsSync(file)) return;
  const [action, wanted] = readFileSync(file, "utf8").trim().split(/\s+/);
  if (wanted !== point) return;
  rmSync(file, { force: true });
  if (action === "kill") process.kill(process.pid, "SIGKILL");
  if (action === "vmm") {
    onVmm?.();
    return;
  }
  if (action === "enospc") throw Object.assign(new Error(`ENOSPC: fault at ${point}`), { code: "ENOSPC" });
  throw new Error(`fault at ${point}`);
}
