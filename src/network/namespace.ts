/** A sandbox's namespace: built without an owner (for the pool), then given an address on an owner's bridge. */
import { existsSync } from "node:fs";
import { BRIDGE_MAC, macOf, type Names } from "./names.ts";
import { NAMESPACE_SYSCTLS, namespaceRules } from "./namespace-rules.ts";
import { GUEST, type SandboxNet } from "./network.ts";
import { inNetns, ip, ipForce } from "./run.ts";

/** "veth" puts one end of a veth pair where the TAP would be (peer `guest0`), for tests without a VMM. */
export type TapKind = "tap" | "veth";

/**
 * Builds the namespace of `slot`: TAP owned by the slot's uid, rules, and a veth whose host end is down and on no bridge.
 * Removes what is left of an earlier one first. On failure nothing is left.
 */
export async function buildNamespace(names: Names, slot: number, kind: TapKind): Promise<void> {
  const netns = names.netns(slot);
  if (existsSync(`/run/netns/${netns}`) || existsSync(`/sys/class/net/${names.veth(slot)}`)) {
    await removeNamespace(names, slot);
  }
  try {
    const veth = names.veth(slot);
    await ip([
      `netns add ${netns}`,
      `link add ${veth} type veth peer name eth0 netns ${netns}`,
      `link set ${veth} addrgenmode none`,
    ]);
    await inNetns(netns, insideScript(names.uid(slot), kind));
  } catch (error) {
    await removeNamespace(names, slot);
    throw error;
  }
}

/**
 * Gives the namespace its address and puts it on `bridge`. May be repeated, also under live connections; the caller opens
 * the port in the rules.
 */
export async function joinBridge(names: Names, net: SandboxNet, bridge: string): Promise<void> {
  const veth = names.veth(net.slot);
  await Promise.all([
    ip([
      `link set ${veth} master ${bridge}`,
      `link set ${veth} up`,
      // Without it the first packet waits for ARP, for seconds when a query is lost. The MAC follows from the address,
      // so that an entry that outlives its sandbox is right for the next one.
      `neighbour replace ${net.address} lladdr ${macOf(net.address)} dev ${bridge} nud permanent`,
    ]),
    ipIn(net.netns, [
      `link set eth0 address ${macOf(net.address)}`,
      `address replace ${net.address}/24 dev eth0`,
      "link set eth0 up",
      `route replace default via ${net.gateway}`,
      // The gateway is who it is, whatever a sibling says.
      `neighbour replace ${net.gateway} lladdr ${BRIDGE_MAC} dev eth0 nud permanent`,
    ]),
  ]);
}

/** Puts the current rules into a namespace that an earlier daemon built, under a running VMM. */
export async function refreshRules(net: SandboxNet): Promise<void> {
  await inNetns(net.netns, `nft -f - <<'END'\n${namespaceRules()}\nEND\n`);
}

/** How often a removal is tried, 50 ms apart: a helper of a killed daemon may still be at work on the same namespace. */
const REMOVALS = 40;

/** So many are removed by one program: it has 30 s, and the kernel takes its time for each. */
const AT_ONCE = 100;

/** Removes namespace and veth of each slot, there or not. Throws if one is still there after 2 s. */
export async function removeNamespace(names: Names, ...slots: number[]): Promise<void> {
  for (let at = 0; at < slots.length; at += AT_ONCE) await removeSome(names, slots.slice(at, at + AT_ONCE));
}

async function removeSome(names: Names, slots: number[]): Promise<void> {
  let left = slots;
  for (let attempt = 0; left.length > 0; attempt++) {
    if (attempt === REMOVALS)
      throw new Error(`could not remove network namespace ${names.netns(left[0] as number)}`);
    if (attempt > 0) await Bun.sleep(50);
    // The veth first: the kernel takes a namespace apart later, and the name of the host end must be free now.
    await ipForce([
      ...left.map((slot) => `link delete ${names.veth(slot)}`),
      ...left.map((slot) => `netns delete ${names.netns(slot)}`),
    ]);
    left = left.filter(
      (slot) =>
        existsSync(`/run/netns/${names.netns(slot)}`) || existsSync(`/sys/class/net/${names.veth(slot)}`),
    );
  }
}

const ipIn = (netns: string, lines: string[]): Promise<string> =>
  inNetns(netns, `ip -batch - <<'END'\n${lines.join("\n")}\nEND\n`);

function insideScript(uid: number, kind: TapKind): string {
  const settings = Object.entries(NAMESPACE_SYSCTLS)
    .map(([path, value]) => `[ ! -e /proc/sys/${path} ] || echo ${value} > /proc/sys/${path}`)
    .join("\n");
  const tap =
    kind === "tap"
      ? `tuntap add dev ${GUEST.tap} mode tap user ${uid} group ${uid}`
      : `link add ${GUEST.tap} type veth peer name guest0`;
  return `${settings}
ip -batch - <<'END'
link set lo up
${tap}
link set ${GUEST.tap} address ${GUEST.tapMac}
link set ${GUEST.tap} up
address add ${GUEST.gateway}/${GUEST.prefix} dev ${GUEST.tap}
neighbour replace ${GUEST.address} lladdr ${GUEST.mac} dev ${GUEST.tap} nud permanent
END
nft -f - <<'END'
${namespaceRules()}
END
`;
}
