/** Calls of the kernel that Bun does not offer. */
import { dlopen, ptr } from "bun:ffi";
import { closeSync, constants, openSync } from "node:fs";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const LOCK_EX = 2;
const LOCK_NB = 4;

function open() {
  return dlopen("libc.so.6", {
    getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
    flock: { args: ["i32", "i32"], returns: "i32" },
  }).symbols;
}
let libc: ReturnType<typeof open> | undefined;

/**
 * Process and user that connected to us or listened for us (SO_PEERCRED, unix(7)); null when the kernel does not say.
 * `socket`: a connected unix socket of Bun, whose `fd` its types do not tell.
 */
export function peerOf(socket: object): { pid: number; uid: number } | null {
  libc ??= open();
  const { fd } = socket as { fd: number };
  const credentials = new Uint32Array(3);
  const length = new Int32Array([credentials.byteLength]);
  if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(credentials), ptr(length)) !== 0) return null;
  return { pid: credentials[0]!, uid: credentials[1]! };
}

/** Takes the lock of a file (flock(2)), which is made when it is not there; null while somebody else has it. Ends with us. */
export function tryLock(path: string): { release(): void } | null {
  libc ??= open();
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  let held = libc.flock(fd, LOCK_EX | LOCK_NB) === 0;
  if (!held) {
    closeSync(fd);
    return null;
  }
  return {
    release() {
      if (held) closeSync(fd);
      held = false;
    },
  };
}
