/** Why a guest did not come up, with what it said last. */
import { lastLines, readConsole } from "../../engine/console.ts";
import { EngineError } from "../../engine/engine.ts";
import { GuestError } from "../../guest/guest.ts";
import { AppError } from "../../lib/errors.ts";
import type { Actor } from "../actor.ts";
import { VmEndedError } from "../end.ts";

const LINES = 8;

/** A guest's failure as `guest_failed` with the end of its console; anything else (no memory, full disk) stays what it is. */
export function bootFailure(actor: Actor, error: unknown): unknown {
  const timeout = error instanceof DOMException && error.name === "TimeoutError";
  const ofGuest = error instanceof VmEndedError || error instanceof GuestError || timeout;
  if (!ofGuest && !(error instanceof EngineError)) return error;
  const said = lastLines(readConsole(actor.dir, 8192), LINES);
  const why = ofGuest && !timeout ? (error as Error).message : "its agent did not answer";
  const text =
    said.length > 0 ? `\nlast lines of its console:\n${said.map((line) => `  ${line}`).join("\n")}` : "";
  return new AppError("guest_failed", `sandbox "${actor.row.name}" did not boot: ${why}${text}`, {
    cause: error,
    remedy: `bhatti console ${actor.row.name}   (all it printed); a snapshot can be put back: bhatti snapshot restore`,
  });
}
