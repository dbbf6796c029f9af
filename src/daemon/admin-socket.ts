/**
 * Local commands of root over a unix socket: the database has one opener, the daemon. The socket lies in a folder of root's
 * (0700) and is 0600 itself, so the kernel admits root alone; no key is asked.
 */
import { chmodSync, rmSync } from "node:fs";
import { AppError } from "../lib/errors.ts";

/** A command is a few hundred bytes. */
const MAX_BODY = 64 * 1024;

/** Serves until the returned function is called. */
export function serveAdmin<C>(path: string, perform: (command: C) => unknown): () => void {
  rmSync(path, { force: true });
  const server = Bun.serve({
    unix: path,
    maxRequestBodySize: MAX_BODY,
    async fetch(request) {
      try {
        return Response.json(await perform((await request.json()) as C));
      } catch (error) {
        const known = error instanceof AppError ? error : new AppError("internal", String(error));
        const { code, message, remedy, status } = known;
        return Response.json({ code, error: message, remedy }, { status });
      }
    },
  });
  chmodSync(path, 0o600);
  return () => {
    void server.stop(true);
    rmSync(path, { force: true });
  };
}

/** null when no daemon listens there. Throws AppError for what it refuses. */
export async function callAdmin<R>(path: string, command: { op: string }): Promise<R | null> {
  const answer = await fetch("http://admin/", {
    unix: path,
    method: "POST",
    body: JSON.stringify(command),
    signal: AbortSignal.timeout(30_000),
  }).catch((error: unknown) => {
    const { code } = error as { code?: string };
    if (["ENOENT", "ECONNREFUSED", "FailedToOpenSocket", "ConnectionRefused"].includes(code ?? ""))
      return null;
    throw error;
  });
  if (!answer) return null;
  const body = (await answer.json()) as R & { code: "conflict"; error: string; remedy?: string };
  if (!answer.ok) throw new AppError(body.code, body.error, { remedy: body.remedy, status: answer.status });
  return body;
}
