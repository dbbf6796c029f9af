/** For tests: a namespace that stands for everything outside the host. It has no route back to any sandbox. */
import { ip, ipForce, run } from "./run.ts";

export class Outside {
  readonly netns: string;
  /** Host and far end of the link to it: public addresses, as far as the rules know. */
  readonly hostOut: string;
  readonly internet: string;
  /** A private address behind the same link. */
  readonly lan: string;
  /** Metadata services there, to which the host would forward what comes from `bridges`. */
  readonly metadata = ["169.254.169.254", "168.63.129.16"];
  private readonly link: string;
  private readonly table: number;

  /** @param base one that no other test process uses (test/e2e/claim.ts); at most 255 */
  constructor(
    prefix: string,
    base: number,
    private readonly bridges: string[],
  ) {
    this.netns = `${prefix}-out`;
    this.link = `${prefix}-o`;
    const net = base < 128 ? "198.51.100" : "203.0.113";
    this.hostOut = `${net}.${(base % 128) * 2}`;
    this.internet = `${net}.${(base % 128) * 2 + 1}`;
    this.lan = `172.31.${base}.77`;
    this.table = 20_000 + base;
  }

  async build(): Promise<void> {
    // A test that was killed had the same base.
    await this.remove();
    await ip([
      `netns add ${this.netns}`,
      `link add ${this.link} type veth peer name wan netns ${this.netns}`,
      `address add ${this.hostOut}/31 dev ${this.link}`,
      `link set ${this.link} up`,
      `route add ${this.lan}/32 via ${this.internet} onlink dev ${this.link}`,
      // The host has routes of its own to these, which are not ours to change.
      `route add default via ${this.internet} dev ${this.link} table ${this.table}`,
      ...this.rules("add"),
    ]);
    await run(
      ["nsenter", `--net=/run/netns/${this.netns}`, "sh", "-es"],
      `ip link set lo up; ip link set wan up; ip address add ${this.internet}/31 dev wan
       for address in ${this.lan} ${this.metadata.join(" ")}; do ip address add $address/32 dev lo; done`,
    );
  }

  /** There or not. */
  async remove(): Promise<void> {
    await ipForce([`link delete ${this.link}`, `netns delete ${this.netns}`, ...this.rules("delete")]);
  }

  private rules = (verb: string): string[] =>
    this.bridges.flatMap((bridge) =>
      this.metadata.map((address) => `rule ${verb} to ${address} iif ${bridge} lookup ${this.table}`),
    );
}
