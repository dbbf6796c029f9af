/** Why a machine ended, in one word and one sentence: for status, events, log and the errors of requests it cut. */
import { lastLines } from "../engine/console.ts";
import type { VmExit } from "../engine/engine.ts";

export type EndReason = "poweroff" | "reboot" | "panic" | "oom" | "crashed" | "failed";

export interface End {
  reason: EndReason;
  why: string;
}

const TEXT: Record<EndReason, string> = {
  poweroff: "it was powered off from inside",
  reboot: "it was rebooted from inside",
  panic: "its kernel panicked",
  oom: "the host ran out of memory and killed its VMM",
  crashed: "its VMM ended unexpectedly",
  failed: "its agent cannot run",
};

/** Only the end of the console is looked at. */
const LOOK_AT = 8192;

/**
 * The VMM knows a power-off from a reset, and nothing more; a panic is a reset with a message on the console. The guest
 * writes the console itself: what is read there chooses between words, and decides nothing else.
 */
export function endOf(exit: VmExit): End {
  const console = exit.consoleTail.slice(-LOOK_AT);
  if (exit.cause === "oom" || exit.cause === "crashed") return { reason: exit.cause, why: TEXT[exit.cause] };
  // The agent's last words (docs/guest-protocol.md) and the kernel's: what came later counts.
  const farewell = [...console.matchAll(/lohar: end=(\w+) by=\w+ ?([^\r\n]{0,300})/g)].at(-1);
  const panic = [...console.matchAll(/Kernel panic - not syncing: ([^\r\n]{0,300})/g)].at(-1);
  if (exit.cause === "reset" && panic && panic.index > (farewell?.index ?? -1)) {
    const why = lastLines(panic[1]!, 1)[0] ?? "";
    if (/deadlocked on memory|[Oo]ut of memory/.test(why))
      return { reason: "oom", why: `its kernel ran out of memory: ${why}` };
    return { reason: "panic", why: `${TEXT.panic}: ${why}` };
  }
  if (farewell?.[1] === "failed")
    return { reason: "failed", why: `${TEXT.failed}: ${lastLines(farewell[2]!, 1)[0] ?? ""}` };
  // A machine that cannot turn itself off is reset instead.
  const off = farewell?.[1] === "poweroff" || console.includes("reboot: Power down");
  const reason = exit.cause === "poweroff" || off ? "poweroff" : "reboot";
  return { reason, why: TEXT[reason] };
}

/** What waits for a machine that has ended gets this. */
export class VmEndedError extends Error {
  constructor(readonly end: End) {
    super(end.why);
    this.name = "VmEndedError";
  }
}
