/** What `bhatti doctor --security` tells of one protection. */
import type { Config } from "../daemon/config.ts";

/** ok: in force. weak: works, with less protection than there could be. bad: somebody can get what is not theirs. */
export type Grade = "ok" | "weak" | "bad";

export interface Verdict {
  grade: Grade;
  detail: string;
  remedy?: string;
}

export interface Finding extends Verdict {
  id: string;
  name: string;
}

export const good = (detail: string): Verdict => ({ grade: "ok", detail });
export const weak = (detail: string, remedy?: string): Verdict => ({ grade: "weak", detail, remedy });
export const bad = (detail: string, remedy: string): Verdict => ({ grade: "bad", detail, remedy });

/** Where things lie; another root in tests. */
export interface Host {
  config: Config;
  configFile: string;
  program: string;
  keyFile: string;
  /** Prefix of /proc and /sys. */
  root: string;
}
