/** Exec in its three modes: buffered, NDJSON, detached. */
import { type Context, Hono } from "hono";
import { type About, named } from "../guest/errors.ts";
import type { ExecRequest } from "../guest/guest.ts";
import { decode } from "../http/decode.ts";
import { answerText, encode, reply } from "../http/json.ts";
import { only } from "../http/server.ts";
import { hex } from "../lib/ids.ts";
import { signalOf } from "../sandboxes/request-lease.ts";
import type { GuestLease, Sandboxes } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";
import { aboutOf, notStarted, notStartedError, toExec, told, withSecrets } from "./request.ts";
import { execSchema } from "./schemas.ts";

/** An answer of which nothing is read for so long is given up, s. */
const UNREAD_S = 120;
const NO_ROOM =
  "[output dropped: answers that you have not read fill your share of the server's memory; read them, or stream the output]";

/** Combined output of a buffered exec, bytes. */
const OUTPUT_CAP = 10 * 1024 * 1024;

export function execRoutes({ sandboxes }: { sandboxes: Sandboxes }): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  app.post("/sandboxes/:ref/exec", async (c) => {
    sandboxes.get(c.get("user"), c.req.param("ref"));
    const body = await decode(c, execSchema);
    c.env?.server?.timeout(c.req.raw, 0);
    const about = aboutOf(c.req.param("ref"), body);
    const lease = await sandboxes.lease(c.get("user"), about.sandbox, "exec", c.req.raw.signal);
    const request = await withSecrets(lease, toExec(body));
    if (body.detach) return detached(c, lease, about, request);
    return c.req.header("accept") === "application/x-ndjson"
      ? streamed(c, lease, about, request)
      : buffered(c, lease, about, request);
  });
  app.all("/sandboxes/:ref/exec", only("POST"));
  return app;
}

async function detached(
  c: Context<AppEnv>,
  lease: GuestLease,
  about: About,
  request: ExecRequest,
): Promise<Response> {
  const outputFile = about.outputFile ?? `/tmp/bhatti-exec-${hex(4)}.log`;
  try {
    const { pid } = await lease.guest.execDetached({ ...request, outputFile });
    return reply(c, { pid, output_file: outputFile, detached: true });
  } catch (error) {
    throw notStartedError(error) ?? named(error, { ...about, outputFile });
  } finally {
    lease.release();
  }
}

async function buffered(
  c: Context<AppEnv>,
  lease: GuestLease,
  about: About,
  request: ExecRequest,
): Promise<Response> {
  const output = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  let left = OUTPUT_CAP;
  let cut = "";
  const place = c.get("place");
  const keep = (to: Uint8Array[]) => (chunk: Uint8Array) => {
    const part = chunk.subarray(0, left);
    if (part.length < chunk.length) cut ||= "[output truncated at 10MB]";
    if (part.length === 0) return;
    if (!place.take(part.length)) {
      left = 0;
      cut ||=
        "[output truncated: the output of your running commands fills your share of the server's memory]";
      return;
    }
    to.push(part);
    left -= part.length;
  };
  const text = (chunks: Uint8Array[]) => new TextDecoder().decode(Buffer.concat(chunks));
  try {
    const result = await lease.guest.exec(
      request,
      { stdout: keep(output.stdout), stderr: keep(output.stderr) },
      signalOf(c, lease),
    );
    let stderr = text(output.stderr);
    if (result.timedOut) stderr += `\n[command timed out after ${request.timeoutMs! / 1000}s]`;
    if (cut) stderr += `\n${cut}`;
    const told = { exit_code: result.exitCode, ...(result.timedOut ? { timed_out: true } : {}) };
    const full = encode({ ...told, stdout: text(output.stdout), stderr });
    // From here on it is the client that is waited for.
    c.env?.server?.timeout(c.req.raw, UNREAD_S);
    // As JSON it can be six times as large. What was run is not run again for want of room for what it said.
    if (place.takeAnswer(Buffer.byteLength(full))) return answerText(full);
    return reply(c, { ...told, stdout: "", stderr: NO_ROOM });
  } catch (error) {
    const failed = notStarted(error);
    if (!failed) throw named(error, about);
    return reply(c, { exit_code: failed.exitCode, stdout: "", stderr: `${failed.message}\n` });
  } finally {
    lease.release();
  }
}

function streamed(c: Context<AppEnv>, lease: GuestLease, about: About, request: ExecRequest): Response {
  const encoder = new TextEncoder();
  const gone = new AbortController();
  const signal = AbortSignal.any([signalOf(c, lease), gone.signal]);
  let wake: (() => void) | null = null;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      // Headers go out with the first bytes: a command that is silent for long must not look like a dead server.
      controller.enqueue(encoder.encode(""));
      const event = (value: unknown) => controller.enqueue(encoder.encode(encode(value)));
      const output = (type: "stdout" | "stderr") => {
        const decoder = new TextDecoder();
        return {
          chunk: (bytes: Uint8Array) => {
            const data = decoder.decode(bytes, { stream: true });
            if (data) event({ type, data });
            // Back-pressure: wait for a reader that lags.
            if ((controller.desiredSize ?? 1) <= 0) {
              return new Promise<void>((resolve) => {
                wake = resolve;
              });
            }
          },
          flush: () => {
            const data = decoder.decode();
            if (data) event({ type, data });
          },
        };
      };
      const [stdout, stderr] = [output("stdout"), output("stderr")];
      void (async () => {
        try {
          const result = await lease.guest.exec(
            request,
            { stdout: stdout.chunk, stderr: stderr.chunk },
            signal,
          );
          stdout.flush();
          stderr.flush();
          if (result.timedOut)
            event({
              type: "error",
              code: "timeout",
              data: `command timed out after ${request.timeoutMs! / 1000}s`,
            });
          else event({ type: "exit", exit_code: result.exitCode });
        } catch (error) {
          const failed = notStarted(error);
          if (failed) {
            event({ type: "stderr", data: `${failed.message}\n` });
            event({ type: "exit", exit_code: failed.exitCode });
          } else if (!gone.signal.aborted) {
            event({ type: "error", ...told(error, about) });
          }
        } finally {
          lease.release();
          try {
            controller.close();
          } catch {}
        }
      })();
    },
    pull() {
      wake?.();
      wake = null;
    },
    cancel() {
      gone.abort();
      wake?.();
    },
  });
  return new Response(body, {
    headers: { "content-type": "application/x-ndjson", "x-content-type-options": "nosniff" },
  });
}
