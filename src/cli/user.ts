import { group } from "./program.ts";
export const command = () => group("user", "x", [], []);
