/** A frozen machine that clones are made from: three files that belong together and never change. */
export interface CloneSource {
  kind: "template" | "snapshot" | "fork";
  /** Directory with `state` and `disk`. */
  dir: string;
  /** Path of its memory. */
  memory: string;
  /** Token that the agent in the memory accepts; "" when it was never configured (templates). */
  token: string;
  /** Identity generation of the agent in the memory. */
  agentGeneration: number;
  /** Kernel the machine booted with. */
  kernel: string;
  stateSha256: string;
}
