/** Entry for the composition root. */
export { detectForeignDrop } from "./foreign-firewall.ts";
export { HostNetwork, type NetworkOptions } from "./host-network.ts";
