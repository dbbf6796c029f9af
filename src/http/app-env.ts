import type { User } from "../users/user.ts";

/** What the pipeline puts on every request's context. */
export interface AppEnv {
  Variables: { user: User; requestId: string };
  Bindings: { server: import("bun").Server<unknown> };
}
