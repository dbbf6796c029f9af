/** Why a guest did not come up, with what it said last. */
import { lastLines, readConsole } from "../../engine/console.ts";
import { GuestError } from "../../guest/guest.ts";
import { AppError } from "../../lib/errors.ts";
import type { Actor } from "../actor.ts";
import { VmEndedError } from "../end.ts";
import type { SandboxRow } from "../rows.ts";
import { ended } from "./crash.ts";

const LINES = 8;

/**
 * A guest's failure as `guest_failed` with the end of its console; anything else (no memory, full disk, no VMM) stays what it
 * is. `made`: false for a sandbox that comes into being, of which nothing will be left to look at.
 */
export function bootFailure(actor: Actor, error: unknown, made = true): unknown {
  const timeout = error instanceof DOMException && error.name === "TimeoutError";
  if (!(error instanceof VmEndedError || error instanceof GuestError || timeout)) return error;
  const { name, image } = actor.row;
  const said = lastLines(readConsole(actor.dir, 8192), LINES);
  const why = timeout ? "its agent did not answer" : error.message;
  const text =
    said.length > 0 ? `\nlast lines of its console:\n${said.map((line) => `  ${line}`).join("\n")}` : "";
  return new AppError("guest_failed", `sandbox "${name}" did not boot: ${why}${text}`, {
    cause: error,
    remedy: made
      ? `bhatti console ${name}   (all it printed); a snapshot can be put back: bhatti snapshot restore`
      : `image "${image}" may not be bootable: build it again on the server, bhatti host image`,
  });
}

/** What the row says of it: it stays off until somebody wants it, who tries again. */
export function bootFailed(failure: unknown): Partial<SandboxRow> {
  const off = { status: "stopped", pid: 0, pid_start: 0 } as const;
  if (!(failure instanceof AppError) || failure.code !== "guest_failed") return off;
  return { ...off, ...ended("failed", failure.message.split("\n")[0]!), reason: "failed" };
}
