/** Commands in the guest. */
import { type Connection, errorOf, jsonOf, protocolError } from "./connection.ts";
import { FRAME } from "./frames.ts";
import { type ExecRequest, type ExecResult, type ExecSink, GuestError } from "./guest.ts";

/** From a command's time-out to the answer that it has passed: killing takes a moment on a busy machine, ms. */
const OVERDUE_MS = 10_000;
const STDIN_CHUNK = 256 << 10;

const members = (r: ExecRequest) => ({
  argv: r.argv,
  env: r.env,
  cwd: r.cwd,
  uid: r.uid,
  timeout_ms: r.timeoutMs ?? 0,
  stdin: r.stdin !== undefined,
});

/** Runs a command to its end; the sink's promises slow the guest down. */
export async function execute(c: Connection, request: ExecRequest, sink: ExecSink): Promise<ExecResult> {
  await c.request("exec", members(request));
  const feeding = request.stdin ? feed(c, request.stdin) : null;
  const deadline = request.timeoutMs ? watchDeadline(c, request.timeoutMs) : null;
  let started = false;
  try {
    for (;;) {
      const frame = await c.next();
      if (frame.type === FRAME.stdout) await sink.stdout(frame.payload);
      else if (frame.type === FRAME.stderr) await sink.stderr(frame.payload);
      else if (frame.type === FRAME.started && !started) {
        started = true;
        sink.started?.(Number(jsonOf(frame).pid));
      } else if (frame.type === FRAME.error) throw errorOf(frame);
      else if (frame.type === FRAME.result) {
        const r = jsonOf(frame);
        if (!Number.isInteger(r.exit_code)) throw protocolError();
        return {
          exitCode: r.exit_code as number,
          timedOut: r.timed_out === true,
          ...(typeof r.signal === "string" ? { signal: r.signal.slice(0, 16) } : {}),
        };
      } else throw protocolError();
    }
  } finally {
    feeding?.cancel();
    deadline?.cancel();
  }
}

/** The guest keeps the time; when it does not say so by a while later, it is the guest that is gone. */
function watchDeadline(c: Connection, timeoutMs: number): { cancel(): void } {
  const look = () => {
    // The word may be waiting behind output that our reader has not taken.
    if (!c.waits) {
      timer = setTimeout(look, 1000);
      return;
    }
    const seconds = timeoutMs / 1000;
    c.giveUp(
      new GuestError(
        "guest_unresponsive",
        `the command had ${seconds} s, and the sandbox has not said how it ended`,
      ),
    );
  };
  let timer = setTimeout(look, timeoutMs + OVERDUE_MS);
  return { cancel: () => clearTimeout(timer) };
}

/** Sends stdin until it ends, the command ends or the connection fails. */
function feed(c: Connection, stdin: ReadableStream<Uint8Array>): { cancel(): void } {
  const reader = stdin.getReader();
  let stopped = false;
  void (async () => {
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (stopped) return;
        if (done) break;
        for (let at = 0; at < value.length; at += STDIN_CHUNK)
          await c.sendFrame(FRAME.stdin, value.subarray(at, at + STDIN_CHUNK));
      }
      await c.sendFrame(FRAME.stdinEof);
    } catch {
      // A source that breaks off is an end of input; the command's own end is reported by its result.
      if (!stopped && c.open) await c.sendFrame(FRAME.stdinEof).catch(() => {});
    }
  })();
  return {
    cancel() {
      stopped = true;
      void reader.cancel().catch(() => {});
    },
  };
}

export async function executeDetached(
  c: Connection,
  request: ExecRequest & { outputFile: string },
): Promise<{ pid: number }> {
  await c.request("exec.detach", { ...members(request), output_file: request.outputFile });
  const { pid } = await c.result();
  if (!Number.isInteger(pid)) throw protocolError();
  return { pid: pid as number };
}
