/** The programs that bhatti calls: packaging/programs.txt, which set-up installs from as well. */
import list from "../../packaging/programs.txt" with { type: "text" };

export interface Program {
  /** `product`: a server needs it. `build` and `test`: only a checkout does. */
  for: string;
  /** Debian's package. */
  package: string;
  name: string;
}

export const PROGRAMS: readonly Program[] = list
  .split("\n")
  .filter((line) => line.trim() && !line.startsWith("#"))
  .flatMap((line) => {
    const [kind, name, ...programs] = line.trim().split(/\s+/) as [string, string, ...string[]];
    return programs.map((program) => ({ for: kind, package: name, name: program }));
  });

/** Where programs are looked for, whatever PATH the daemon was started with. */
export const TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Programs of the server that are not on this machine. */
export const missingPrograms = (): Program[] =>
  PROGRAMS.filter((program) => program.for === "product" && !Bun.which(program.name, { PATH: TOOL_PATH }));
