import type { Transitions } from "../actor.ts";
import { crashed } from "./crash.ts";
import { pause } from "./pause.ts";
import { restart } from "./restart.ts";
import { stop } from "./stop.ts";
import { wake } from "./wake.ts";

/** What actors do by themselves: on a request, on idleness, at the end of their VM. */
export const transitions: Transitions = { wake, pause, stop, crashed, restart };
