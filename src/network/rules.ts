/** The firewall as text for `nft -f`. Host side: one table per family, replaced in one transaction. */
import type { Names } from "./names.ts";
import { GUEST } from "./network.ts";

/** Private and special ranges that a sandbox may not reach, unless the configuration allows a part of them. */
const DENIED =
  "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";

const elements = (items: string[]): string => (items.length > 0 ? `elements = { ${items.join(", ")} }` : "");

export interface HostState {
  /** Bridges that exist, by subnet index. */
  bridges: number[];
  /** Sandboxes that are attached. */
  ports: { veth: string; address: string }[];
  allowedPrivate: string[];
}

/** Scoped by interface name, never by address: a host on a 10.x network must keep working. */
export function hostRules(n: Names, state: HostState): string {
  const pairs = state.bridges.map((index) => `"${n.bridge(index)}" . "${n.bridge(index)}"`);
  const subnets = state.bridges.map((index) => `${n.subnet(index)}.0/24`);
  const ports = state.ports.map(({ veth, address }) => `"${veth}" . ${address}`);
  return `
table inet ${n.table}
delete table inet ${n.table}
table inet ${n.table} {
  set pairs { type ifname . ifname; ${elements(pairs)} }
  set subnets { type ipv4_addr; flags interval; ${elements(subnets)} }
  set allowed { type ipv4_addr; flags interval; ${elements(state.allowedPrivate)} }
  chain forward {
    type filter hook forward priority -10; policy accept;
    iifname . oifname @pairs accept comment "bridged frames under br_netfilter"
    iifname "${n.bridgeGlob}" oifname "${n.bridgeGlob}" drop
    oifname "${n.bridgeGlob}" ct state established,related accept
    oifname "${n.bridgeGlob}" drop
    iifname "${n.bridgeGlob}" meta nfproto ipv6 drop
    iifname "${n.bridgeGlob}" ip daddr @allowed accept
    iifname "${n.bridgeGlob}" ip daddr { ${DENIED} } drop
  }
  chain input {
    type filter hook input priority -10; policy accept;
    iifname "${n.bridgeGlob}" ct state established,related accept
    iifname "${n.bridgeGlob}" ip daddr ${n.resolver} udp dport 53 accept
    iifname "${n.bridgeGlob}" ip daddr ${n.resolver} tcp dport 53 accept
    iifname "${n.bridgeGlob}" drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @subnets oifname != "${n.bridgeGlob}" masquerade
  }
}
table bridge ${n.table}
delete table bridge ${n.table}
table bridge ${n.table} {
  set ports { type ifname . ipv4_addr; ${elements(ports)} }
  chain forward {
    type filter hook prerouting priority -300; policy accept;
    iifname "${n.vethGlob}" ether type ip iifname . ip saddr @ports accept
    iifname "${n.vethGlob}" ether type arp iifname . arp saddr ip @ports accept
    iifname "${n.vethGlob}" drop comment "spoofed source, IPv6, anything else"
  }
}
`;
}

/** Rules inside a sandbox's namespace. The same for every owner, so that namespaces can be made ahead. */
export function namespaceRules(n: Names): string {
  const { tap, address, gateway, agentPort } = GUEST;
  return `
table inet sandbox {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "eth0" dnat ip to ${address}
    iifname "${tap}" ip daddr ${gateway} udp dport 53 dnat ip to ${n.resolver}
    iifname "${tap}" ip daddr ${gateway} tcp dport 53 dnat ip to ${n.resolver}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "eth0" masquerade
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    meta nfproto ipv6 drop
    iifname "${tap}" ip saddr != ${address} drop
    ct state established,related accept
    iifname "eth0" tcp dport ${agentPort} ip saddr & 0.0.0.255 != 0.0.0.1 drop comment "the agent answers the host alone"
    iifname "eth0" oifname "${tap}" accept
    iifname "${tap}" ip daddr ${n.resolver} udp dport 53 accept
    iifname "${tap}" ip daddr ${n.resolver} tcp dport 53 accept
    iifname "${tap}" ip daddr 169.254.0.0/16 drop
    iifname "${tap}" oifname "eth0" accept
  }
  chain input {
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    ct state established,related accept
    iifname "${tap}" ip saddr ${address} icmp type echo-request accept
  }
}
`;
}
