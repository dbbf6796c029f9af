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
  Bindings: { server: import("bun").Server<unknown> };
}

export interface Caller {
  id: string;
}
