/**
 * Forgets tracked connections, by netlink: it is on the path of every wake, where starting a process would be felt.
 * Message format: linux/netfilter/nfnetlink_conntrack.h. A delete without a tuple empties the whole namespace; a delete
 * with a filter removes what matches (Linux 6.11 and newer; before, the package conntrack has to do it).
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { closeSync, openSync } from "node:fs";
import { run, TOOL_PATH } from "./run.ts";

const { i32, u64, ptr: pointer } = FFIType;
const CLONE_NEWNET = 0x40000000;
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_NETFILTER = 12;
const AF_INET = 2;
/** NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE */
const CT_DELETE = (1 << 8) | 2;
const NLM_F_REQUEST_ACK = 0x01 | 0x04;
const NLMSG_ERROR = 2;
const ENOENT = 2;
const NESTED = 0x8000;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, TUPLE_IP: 1, IP_SRC: 1, IP_DST: 2, FILTER: 25 };
const CTA_FILTER = { ORIG_FLAGS: 1, REPLY_FLAGS: 2 };
const FLAG = { IP_SRC: 1 << 0, IP_DST: 1 << 1 };

const libc = () =>
  dlopen("libc.so.6", {
    socket: { args: [i32, i32, i32], returns: i32 },
    setns: { args: [i32, i32], returns: i32 },
    send: { args: [i32, pointer, u64, i32], returns: i32 },
    recv: { args: [i32, pointer, u64, i32], returns: i32 },
  }).symbols;
let symbols: ReturnType<typeof libc> | undefined;

/** Errors by which an older kernel says that it knows no filters. */
const NO_FILTERS = [22, 95];

/** Forgets all connections of namespace `netns`. Throws when the kernel refuses. */
export function flushNamespace(netns: string): void {
  const inside = netlinkSocket(netns);
  try {
    check(request(inside, []));
  } finally {
    closeSync(inside);
  }
}

/**
 * Forgets the host's connections from or to `address`. False when this host can not: an old kernel without the program
 * `conntrack`. Throws when the kernel refuses.
 */
export async function flushAddress(address: string): Promise<boolean> {
  if (flushFiltered(address)) return true;
  if (!Bun.which("conntrack", { PATH: TOOL_PATH })) return false;
  // Exit status 1: nothing was found.
  for (const side of ["-s", "-d"]) await run(["conntrack", "-D", side, address], "", { tolerant: true });
  return true;
}

function flushFiltered(address: string): boolean {
  const host = netlinkSocket(null);
  try {
    const octets = address.split(".").map(Number);
    // Connections that the sandbox began, and those that began elsewhere and went to it.
    const first = request(host, filter(CTA.IP_SRC, FLAG.IP_SRC, octets));
    if (NO_FILTERS.includes(first)) return false;
    check(first);
    check(request(host, filter(CTA.IP_DST, FLAG.IP_DST, octets)));
    return true;
  } finally {
    closeSync(host);
  }
}

/** A socket belongs to the namespace in which it was made; this thread is in there for three system calls, synchronously. */
function netlinkSocket(netns: string | null): number {
  symbols ??= libc();
  const { socket, setns } = symbols;
  const open = () => {
    const fd = socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER);
    if (fd < 0) throw new Error("cannot open a netlink socket");
    return fd;
  };
  if (netns === null) return open();
  const home = openSync("/proc/thread-self/ns/net", "r");
  const there = openSync(`/run/netns/${netns}`, "r");
  try {
    if (setns(there, CLONE_NEWNET) !== 0) throw new Error(`cannot enter network namespace ${netns}`);
    try {
      return open();
    } finally {
      // In a foreign namespace every later socket of the daemon would be in the wrong place.
      if (setns(home, CLONE_NEWNET) !== 0) process.abort();
    }
  } finally {
    closeSync(there);
    closeSync(home);
  }
}

function check(errno: number): void {
  if (errno !== 0 && errno !== ENOENT) throw new Error(`conntrack flush failed (errno ${errno})`);
}

/** Sends a delete and returns the errno of the answer; 0 is success. */
function request(fd: number, attributes: number[]): number {
  const { send, recv } = symbols as ReturnType<typeof libc>;
  const message = new Uint8Array(20 + attributes.length);
  const view = new DataView(message.buffer);
  view.setUint32(0, message.length, true);
  view.setUint16(4, CT_DELETE, true);
  view.setUint16(6, NLM_F_REQUEST_ACK, true);
  view.setUint32(8, 1, true);
  message[16] = AF_INET;
  message.set(attributes, 20);
  if (send(fd, ptr(message), message.length, 0) !== message.length)
    throw new Error("conntrack flush: send failed");
  const answer = new Uint8Array(4096);
  const length = recv(fd, ptr(answer), answer.length, 0);
  const ack = new DataView(answer.buffer);
  if (length < 20 || ack.getUint16(4, true) !== NLMSG_ERROR) throw new Error("conntrack flush: no answer");
  return -ack.getInt32(16, true);
}

/** Attributes for 'original direction, this address'. */
function filter(field: number, flag: number, octets: number[]): number[] {
  return [
    ...attribute(CTA.TUPLE_ORIG | NESTED, attribute(CTA.TUPLE_IP | NESTED, attribute(field, octets))),
    ...attribute(CTA.FILTER | NESTED, [
      ...attribute(CTA_FILTER.ORIG_FLAGS, [flag, 0, 0, 0]),
      ...attribute(CTA_FILTER.REPLY_FLAGS, [0, 0, 0, 0]),
    ]),
  ];
}

function attribute(type: number, payload: number[]): number[] {
  const length = 4 + payload.length;
  const padding = Array.from({ length: (4 - (length % 4)) % 4 }, () => 0);
  return [length & 255, length >> 8, type & 255, type >> 8, ...payload, ...padding];
}
