/** Who is at the other end of a unix socket, as the kernel says it. */
import { dlopen, ptr } from "bun:ffi";

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;

/**
 * Process and user that connected to us or listened for us (SO_PEERCRED, unix(7)); null when the kernel does not say.
 * `socket`: a connected unix socket of Bun, whose `fd` its types do not tell.
 */
export function peerOf(socket: object): { pid: number; uid: number } | null {
  libc ??= dlopen("libc.so.6", {
    getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  });
  const { fd } = socket as { fd: number };
  const credentials = new Int32Array(3);
  const length = new Int32Array([credentials.byteLength]);
  if (libc.symbols.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ptr(credentials), ptr(length)) !== 0) return null;
  return { pid: credentials[0]!, uid: credentials[1]! };
}

let libc: ReturnType<
  typeof dlopen<{ getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"]; returns: "i32" } }>
>;
