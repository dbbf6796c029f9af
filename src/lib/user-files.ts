/**
 * Files in a person's home, touched by root as that person: whatever links and folders lie there, nothing is read or changed
 * that the person could not read or change anyway. The child is detached from root's terminal and cannot type into it.
 */
import { readFileSync } from "node:fs";
import { run } from "./run.ts";

export interface Account {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

/** From /etc/passwd; null when there is none of that name. */
export function account(name: string): Account | null {
  const fields = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
    .find((entry) => entry[0] === name);
  if (!fields?.[5]?.startsWith("/")) return null;
  return { name, uid: Number(fields[2]), gid: Number(fields[3]), home: fields[5] };
}

/** The person behind sudo; null without sudo, or when that is root. */
export function invoker(): Account | null {
  const name = process.env.SUDO_USER;
  return name && name !== "root" && process.getuid?.() === 0 ? account(name) : null;
}

const MAX_BYTES = 64 * 1024;

/** Text of a small file. @throws CommandError when the person cannot read it, or it is no plain file. */
export const readAs = (person: Account, file: string): Promise<string> =>
  sh(person, `test -f "$1" && exec head -c ${MAX_BYTES} -- "$1"`, [file]);

/** The file appears complete, mode 0600; its folder is made with 0700. @throws CommandError. */
export const replaceAs = async (person: Account, file: string, text: string): Promise<void> => {
  const script = `umask 077
mkdir -p -- "$(dirname -- "$1")"
new="$1.$$.new"
trap 'rm -f -- "$new"' EXIT
set -C
cat >"$new"
sync -- "$new"
mv -fT -- "$new" "$1"`;
  await sh(person, script, [file], text);
};

/** Removes a file or folder and all in it. @throws CommandError. */
export const removeAs = async (person: Account, path: string): Promise<void> => {
  await sh(person, 'rm -rf -- "$1"', [path]);
};

async function sh(person: Account, script: string, args: string[], stdin?: string): Promise<string> {
  const drop =
    process.getuid?.() === person.uid
      ? []
      : [
          ...[
            "setsid",
            "--wait",
            "setpriv",
            `--reuid=${person.uid}`,
            `--regid=${person.gid}`,
            "--clear-groups",
          ],
          ...["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"],
        ];
  // Nothing of root's environment; no folder of root's to stand in.
  const bare = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"];
  return run([...drop, ...bare, "sh", "-euc", script, "sh", ...args], { stdin, cwd: "/" });
}
