import { Option } from "commander";

/** The flag of `create` and `edit`. */
export const onUnresponsive = () =>
  new Option(
    "--on-unresponsive <what>",
    "when it answers no more: none (say so), or restart (boot it from its disk)",
  ).choices(["none", "restart"]);
