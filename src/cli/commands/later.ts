/** Commands of bhatti v1 that this version does not have: known by name, with what to do instead. */
import { Option } from "commander";
import { CliError } from "../base/errors.ts";

const LATER: Record<string, [what: string, remedy: string]> = {
  shell: ["no terminals", "bhatti exec <sandbox> -- <command> runs commands, with stdin"],
  image: [
    "no images of users",
    "operators build images: bhatti host image; bhatti snapshot keeps a machine as it is",
  ],
  volume: ["no volumes", "a sandbox's disk is kept until it is destroyed; bhatti snapshot copies it"],
  update: ["no update by itself", "on the server: git pull && sudo ./install.sh"],
};

/** Never returns. Throws CliError (status 1: it is not the way the command was written). */
export function later(word: string): never {
  const [what, remedy] = LATER[word] ?? ["no such thing", "see: bhatti --help"];
  throw new CliError(`"bhatti ${word}" is of bhatti v1: this version has ${what} (yet)`, {
    code: "not_implemented",
    remedy,
  });
}

/** An option of v1 for something that is not there yet; help does not show it. `what`: what is missing. */
export const laterOption = (flags: string, what: string): Option =>
  new Option(flags).hideHelp().argParser(() => {
    throw new CliError(`${flags.split(" ")[0]} is of bhatti v1: this version has no ${what}`, {
      code: "not_implemented",
      remedy: "leave it out",
    });
  });
