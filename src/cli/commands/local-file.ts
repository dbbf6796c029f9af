/** Files of this machine as sources and targets of streams. */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { CliError, fileError, usage } from "../base/errors.ts";
import { isTty, write } from "../base/output.ts";
import { onInterrupt } from "../base/signals.ts";

export interface Source {
  /** Bytes, where known beforehand. */
  size?: number;
  /** What is sent: a function where it can be read anew. */
  body: ReadableStream<Uint8Array> | (() => ReadableStream<Uint8Array>);
}

/** The file, or stdin for "-" or undefined. `pass` is what each stream goes through, from its beginning. */
export function source(
  file: string | undefined,
  pass: (size?: number) => (stream: ReadableStream<Uint8Array>) => ReadableStream<Uint8Array>,
): Source {
  if (file === undefined || file === "-") {
    if (isTty(0)) write(2, "reading from the terminal; end with Ctrl-D\n");
    const stat = fstatSync(0);
    // A redirected file may have been read in part already; then its size says nothing.
    if (!stat.isFile() || position() !== 0) return { body: pass()(Bun.stdin.stream()) };
    const through = pass(stat.size);
    let first = true;
    const body = () => {
      const stream = first ? Bun.stdin.stream() : again("/proc/self/fd/0", "stdin", stat.size);
      first = false;
      return through(stream);
    };
    return { body, size: stat.size };
  }
  let fd: number;
  try {
    fd = openSync(file, "r");
  } catch (cause) {
    throw fileError("read", file, cause);
  }
  const stat = fstatSync(fd);
  closeSync(fd);
  if (stat.isDirectory()) throw new CliError(`${file} is a directory`);
  if (!stat.isFile()) return { body: pass()(Bun.file(file).stream()) };
  const through = pass(stat.size);
  return { body: () => through(again(file, file, stat.size)), size: stat.size };
}

/** The file from its beginning, which still has the size that was announced. */
function again(path: string, name: string, size: number): ReadableStream<Uint8Array> {
  const now = statSync(path, { throwIfNoEntry: false });
  if (now?.size !== size) throw new CliError(`${name} changed while it was sent`, { remedy: "run it again" });
  return Bun.file(path).stream();
}

/** Offset of stdin; 0 where the system does not tell. */
function position(): number {
  try {
    const text = readFileSync("/proc/self/fdinfo/0", "utf8");
    return Number(/^pos:\s*(\d+)/m.exec(text)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Everything of the stream to stdout. */
export async function toStdout(stream: ReadableStream<Uint8Array>): Promise<void> {
  for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) write(1, chunk);
}

/**
 * Everything of the stream into `file`, which appears complete or not at all. Bytes written are returned.
 * @throws CliError when the file cannot be written, or exists and `force` is not given.
 */
export async function toFile(
  stream: ReadableStream<Uint8Array>,
  file: string,
  force: boolean,
): Promise<number> {
  if (!force && (await Bun.file(file).exists())) throw usage(`${file} exists`, "add --force to replace it");
  const temporary = join(dirname(file), `.${basename(file)}.${process.pid}.part`);
  let fd: number;
  try {
    fd = openSync(temporary, "wx", 0o600);
  } catch (cause) {
    throw fileError("write", file, cause);
  }
  const remove = () => {
    try {
      unlinkSync(temporary);
    } catch {
      // renamed already, or gone
    }
  };
  const withdraw = onInterrupt(remove);
  let size = 0;
  try {
    for await (const chunk of stream as unknown as AsyncIterable<Uint8Array>) {
      for (let at = 0; at < chunk.length; ) at += writeSync(fd, chunk, at);
      size += chunk.length;
    }
    fsyncSync(fd);
    renameSync(temporary, file);
    return size;
  } catch (cause) {
    throw (cause as NodeJS.ErrnoException).syscall ? fileError("write", file, cause) : cause;
  } finally {
    closeSync(fd);
    remove();
    withdraw();
  }
}

/** All bytes of a small file. */
export function readLocal(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw fileError("read", file, cause);
  }
}
