/**
 * Rules inside a sandbox's namespace. They know nothing of the owner, so a namespace of the pool is complete: what depends
 * on the owner (other owners, the host, private destinations) is decided on the host (host-rules.ts).
 */
import { BRIDGE_MAC } from "./names.ts";
import { GUEST } from "./network.ts";

/** Where DNS queries go between namespace and host; the host redirects it to the gateway of the bridge they came from. */
export const DNS_ANYCAST = "169.254.77.53";

/** Connections that a guest may have open: the kernel's table is memory of the host. */
const MAX_CONNECTIONS = 4096;

const dns = "meta l4proto { tcp, udp } th dport 53";

/** Text for `nft -f`: replaces the rules of the namespace in one transaction. */
export const namespaceRules = (): string => `
table inet bhatti
delete table inet bhatti
table inet bhatti {
  chain dstnat {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "eth0" fib daddr type local dnat ip to ${GUEST.address}
    iifname "tap0" ip daddr ${GUEST.gateway} ${dns} dnat ip to ${DNS_ANYCAST}
    iifname "tap0" ip daddr != ${GUEST.gateway} fib daddr type local dnat ip to ${GUEST.address}
  }
  chain srcnat {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "eth0" masquerade
    iifname "tap0" oifname "tap0" masquerade
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    meta nfproto ipv6 drop
    iifname "tap0" ip saddr != ${GUEST.address} counter drop
    ct state established,related accept
    iifname "tap0" ct count over ${MAX_CONNECTIONS} counter drop
    tcp dport ${GUEST.agentPort} iifname "tap0" oifname "tap0" drop
    tcp dport ${GUEST.agentPort} iifname "eth0" ether saddr != ${BRIDGE_MAC} drop
    iifname { "eth0", "tap0" } oifname "tap0" ct status dnat accept
    iifname "tap0" ip daddr ${DNS_ANYCAST} ${dns} ct status dnat accept
    iifname "tap0" ip daddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } counter drop
    iifname "tap0" oifname "eth0" accept
  }
  # Nobody lives in the namespace itself; a VMM that was taken over finds no way out by sockets of its own. Root alone
  # may speak with the agent: it warms up machines that have no owner yet.
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "tap0" ip saddr ${GUEST.address} tcp sport ${GUEST.agentPort} ct state established accept
  }
  chain output {
    type filter hook output priority filter; policy drop;
    meta skuid 0 oifname "tap0" ip daddr ${GUEST.address} tcp dport ${GUEST.agentPort} accept
    icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
  }
}
table arp bhatti
delete table arp bhatti
table arp bhatti {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "eth0" accept
    iifname "tap0" arp saddr ip ${GUEST.address} arp saddr ether ${GUEST.mac} accept
  }
}
`;

/** Kernel settings of the namespace, before it has any interface. */
export const NAMESPACE_SYSCTLS: Record<string, string> = {
  "net/ipv6/conf/all/disable_ipv6": "1",
  "net/ipv6/conf/default/disable_ipv6": "1",
  "net/ipv4/ip_forward": "1",
  "net/ipv4/conf/all/rp_filter": "1",
  "net/ipv4/conf/all/arp_ignore": "1",
  "net/ipv4/conf/all/send_redirects": "0",
  "net/ipv4/conf/default/send_redirects": "0",
  // A restored guest goes on with connections whose windows the tracker never saw.
  "net/netfilter/nf_conntrack_tcp_be_liberal": "1",
  // Closed connections are not counted by the rules, and a guest closes thousands a second: they are the host's memory.
  "net/netfilter/nf_conntrack_tcp_timeout_time_wait": "10",
};
