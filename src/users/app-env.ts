import type { HttpEnv } from "../http/env.ts";
import type { User } from "./user.ts";

/** Context of the API's routes: the key's user is known. */
export type AppEnv = HttpEnv<User>;
