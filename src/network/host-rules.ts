/**
 * Rules on the host: one table each in the families inet and bridge, replaced together in one transaction. Everything
 * matches by interface name, never by address, so that a host inside a 10.x network keeps working.
 */

import { isIP } from "node:net";
import { macOf, type Names } from "./names.ts";
import { DNS_ANYCAST } from "./namespace-rules.ts";
import { GUEST } from "./network.ts";

/** Port of the responder on each gateway. Not 53, so that a resolver of the host on 0.0.0.0:53 is no obstacle. */
export const DNS_PORT = 10053;

/** Not the internet. 168.63.129.16 is the metadata service of one cloud; those of the others are in the ranges. */
const PRIVATE = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "224.0.0.0/3",
];

/** Packets of one sandbox to the responder; a program that resolves a thousand names a minute does not notice. */
const DNS_RATE = "300/second burst 600 packets";
/**
 * Connections of one sandbox through the host, counted in the host's own table: what the namespace believes can be made to
 * differ (a reset that only one of the two trackers takes for valid). Closed ones are not counted and stay for two minutes;
 * that is what the rate is for.
 */
const MAX_CONNECTIONS = 4096;
const CONNECTION_RATE = "250/second burst 4096 packets";

/** Never opened by configuration: metadata services and other people's sandboxes. */
const NEVER = ["127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "224.0.0.0/3"];

/** A sandbox's place on a bridge. */
export interface PortBinding {
  veth: string;
  address: string;
}

/** Throws an Error for what is no IPv4 address or range; it would end up in the rules as text. */
export function checkCidr(text: string): string {
  const [address = "", bits = "32", rest] = text.split("/");
  if (isIP(address) !== 4 || !/^\d{1,2}$/.test(bits) || Number(bits) > 32 || rest !== undefined) {
    throw new Error(`allowed_private: '${text}' must be an IPv4 address or range, such as 192.168.1.0/24`);
  }
  return text;
}

const set = (elements: string[]): string =>
  elements.length > 0 ? `elements = { ${elements.join(", ")} }` : "";

/** The element that lets a port send, with its own MAC and address only. */
export const portElement = ({ veth, address }: PortBinding): string =>
  `"${veth}" . ${macOf(address)} . ${address}`;

export const bridgeElement = (bridge: string): string => `"${bridge}" . "${bridge}"`;

/** Commands that add and remove elements later. Removal first adds, so that it succeeds whether or not it was there. */
export const addPort = (names: Names, port: PortBinding): string =>
  `add element bridge ${names.table} ports { ${portElement(port)} }\n`;
export const removePort = (names: Names, port: PortBinding): string =>
  `${addPort(names, port)}delete element bridge ${names.table} ports { ${portElement(port)} }\n`;
export const addBridge = (names: Names, bridge: string): string =>
  `add element inet ${names.table} same_bridge { ${bridgeElement(bridge)} }\n`;
export const removeBridge = (names: Names, bridge: string): string =>
  `${addBridge(names, bridge)}delete element inet ${names.table} same_bridge { ${bridgeElement(bridge)} }\n`;

/** Text for `nft -f`. */
export function hostRules(
  names: Names,
  state: { ports: PortBinding[]; bridges: string[]; allowedPrivate: string[] },
): string {
  const fromSandbox = `iifname "${names.bridges}"`;
  return `
table inet ${names.table}
delete table inet ${names.table}
table inet ${names.table} {
  set same_bridge {
    type ifname . ifname
    ${set(state.bridges.map(bridgeElement))}
  }
  set private {
    type ipv4_addr
    flags interval
    ${set(PRIVATE)}
  }
  set never {
    type ipv4_addr
    flags interval
    ${set(NEVER)}
  }
  set allowed_private {
    type ipv4_addr
    flags interval
    auto-merge
    ${set(state.allowedPrivate)}
  }
  set dns_rate {
    type ipv4_addr
    size 65535
    flags dynamic,timeout
    timeout 1m
  }
  set connection_rate {
    type ipv4_addr
    size 65535
    flags dynamic,timeout
    timeout 1m
  }
  set connections {
    type ipv4_addr
    size 65535
    flags dynamic
  }
  chain dstnat {
    type nat hook prerouting priority dstnat; policy accept;
    ${fromSandbox} ip daddr ${DNS_ANYCAST} meta l4proto { tcp, udp } th dport 53 redirect to :${DNS_PORT}
    ${fromSandbox} fib daddr . iif type local meta l4proto { tcp, udp } th dport 53 redirect to :${DNS_PORT}
  }
  chain srcnat {
    type nat hook postrouting priority srcnat; policy accept;
    ${fromSandbox} oifname != "${names.bridges}" masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ${fromSandbox} jump from_sandbox
    oifname "${names.bridges}" jump to_sandbox
  }
  chain from_sandbox {
    meta nfproto ipv6 counter drop
    iifname . oifname @same_bridge jump siblings
    oifname "${names.bridges}" counter drop
    ip daddr @never counter drop
    # Before 'established': a connection that began while these rules were away must not live on.
    ct direction reply ct state established,related accept
    ip daddr != @allowed_private ip daddr @private counter drop
    ct state established,related accept
    ct state invalid counter drop
    update @connection_rate { ip saddr limit rate over ${CONNECTION_RATE} } counter drop
    add @connections { ip saddr ct count over ${MAX_CONNECTIONS} } counter drop
    accept
  }
  # Reached by bridged frames where br_netfilter is loaded, and by packets sent to a sibling through the gateway.
  chain siblings {
    tcp dport ${GUEST.agentPort} counter drop
    accept
  }
  chain to_sandbox {
    ct state established,related accept
    counter drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    ${fromSandbox} jump host_from_sandbox
  }
  chain host_from_sandbox {
    meta nfproto ipv6 counter drop
    ct direction reply ct state established,related accept
    fib daddr . iif type local meta l4proto { tcp, udp } th dport ${DNS_PORT} jump dns
    counter drop
  }
  chain dns {
    update @dns_rate { ip saddr limit rate over ${DNS_RATE} } counter drop
    accept
  }
  chain output {
    type filter hook output priority filter; policy accept;
    oifname "${names.bridges}" tcp dport ${GUEST.agentPort} jump to_agent
  }
  # The daemon is root; nobody else on the host has business with an agent.
  chain to_agent {
    meta skuid 0 accept
    ct state established,related accept
    counter drop
  }
}
table bridge ${names.table}
delete table bridge ${names.table}
table bridge ${names.table} {
  set ports {
    type ifname . ether_addr . ipv4_addr
    ${set(state.ports.map(portElement))}
  }
  chain prerouting {
    type filter hook prerouting priority filter; policy accept;
    iifname "${names.veths}" jump from_port
  }
  chain from_port {
    ether type arp iifname . ether saddr . arp saddr ip @ports iifname . arp saddr ether . arp saddr ip @ports accept
    ether type ip iifname . ether saddr . ip saddr @ports accept
    counter drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${names.veths}" oifname "${names.veths}" ether type ip tcp dport ${GUEST.agentPort} counter drop
  }
}
`;
}

/** Text for `nft -f` that removes both tables, there or not. */
export const noHostRules = (names: Names): string =>
  ["inet", "bridge"].map((f) => `table ${f} ${names.table}\ndelete table ${f} ${names.table}\n`).join("");
