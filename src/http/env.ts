import type { Place } from "./shares.ts";

/** What the pipeline puts on every request's context. `U` is whoever the key belongs to: plumbing only needs an id. */
export interface HttpEnv<U extends Caller> {
  Variables: {
    user: U;
    requestId: string;
    place: Place;
    /** The answer to an error: for those who answer before the end (progress.ts). */
    tell(error: unknown): Response;
  };
  Bindings: {
    server: import("bun").Server<unknown>;
    /** Address of the client, said by whoever stands in front of us and is believed; absent = ask `server`. */
    peer?: string;
    /** Of a request that comes to be decided only, not answered: see edge/passage.ts. */
    passage?: unknown;
  };
}

/** Address of the client. */
export const peerOf = (c: { env?: HttpEnv<Caller>["Bindings"]; req: { raw: Request } }): string =>
  c.env?.peer ?? c.env?.server?.requestIP(c.req.raw)?.address ?? "";

export interface Caller {
  id: string;
}
