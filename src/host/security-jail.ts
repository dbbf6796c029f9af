/** Whether the layers of the jail are in force in the VMMs that run now, as the kernel tells; docs/jail.md says what each does. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { Cgroups } from "../engine/host/cgroup.ts";
import { MAX_SLOTS, Names } from "../network/names.ts";
import { bad, type Finding, good, type Host, type Verdict, weak } from "./security-finding.ts";

interface Vmm {
  pid: number;
  status: string;
}

/** Each layer holds for every VMM, or the first one that lacks it is named. */
const LAYERS: [string, string, string, (vmm: Vmm, proc: string) => boolean][] = [
  ["jail-user", "jail: user", "no capability, no way to gain one", unprivileged],
  [
    "jail-seccomp",
    "jail: seccomp",
    "system calls are filtered",
    ({ status }) => /^Seccomp:\s+2/m.test(status),
  ],
  [
    "jail-processes",
    "jail: processes",
    "sees no process but its own",
    (vmm, proc) => apart(vmm, proc, "pid"),
  ],
  ["jail-files", "jail: files", "a root of its own", (vmm, proc) => apart(vmm, proc, "mnt")],
  ["jail-network", "jail: network", "its sandbox's network alone", (vmm, proc) => apart(vmm, proc, "net")],
  ["jail-ipc", "jail: IPC", "no shared memory with others", (vmm, proc) => apart(vmm, proc, "ipc")],
  ["jail-limits", "jail: limits", "no core dumps, bounded files and threads", limited],
];

export function jailFindings({ config, root }: Host): Finding[] {
  const proc = `${root}/proc`;
  const names = new Names(config.networkPrefix, config.networkBase);
  const vmms = processes(proc, names.uid(1), names.uid(MAX_SLOTS));
  if (vmms.length === 0) {
    const verdict = weak("no VMM runs now, so nothing can be seen", "start a sandbox and ask again");
    return [
      { id: "jail", name: "jail", ...verdict },
      { id: "jail-cgroup", name: "jail: cgroup", ...cgroup([], proc) },
    ];
  }
  const layers = LAYERS.map(([id, name, what, holds]): Finding => {
    const lacking = vmms.filter((vmm) => !holds(vmm, proc));
    const verdict: Verdict =
      lacking.length === 0
        ? good(`${what} (${vmms.length} VMMs)`)
        : bad(
            `not so in ${lacking.length} of ${vmms.length} VMMs, e.g. pid ${lacking[0]!.pid}`,
            "stop and start these sandboxes; tell us if it stays",
          );
    return { id, name, ...verdict };
  });
  return [...layers, { id: "jail-cgroup", name: "jail: cgroup", ...cgroup(vmms, proc) }];
}

function processes(proc: string, from: number, to: number): Vmm[] {
  return readdirSync(proc)
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const status = readFileSync(`${proc}/${name}/status`, "latin1");
        const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1]);
        return uid >= from && uid < to && !/^State:\s+Z/m.test(status) ? [{ pid: Number(name), status }] : [];
      } catch {
        return []; // it ended meanwhile
      }
    });
}

function unprivileged({ status }: Vmm): boolean {
  const value = (key: string) => new RegExp(`^${key}:\\s+([0-9a-f]+)`, "m").exec(status)?.[1] ?? "?";
  return (
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].every((key) => /^0+$/.test(value(key))) &&
    value("NoNewPrivs") === "1"
  );
}

function apart({ pid }: Vmm, proc: string, kind: string): boolean {
  try {
    return readlinkSync(`${proc}/${pid}/ns/${kind}`) !== readlinkSync(`${proc}/self/ns/${kind}`);
  } catch {
    return !existsSync(`${proc}/${pid}`);
  }
}

function limited({ pid }: Vmm, proc: string): boolean {
  try {
    const text = readFileSync(`${proc}/${pid}/limits`, "latin1");
    const hard = (name: string) => new RegExp(`^${name}\\s+\\S+\\s+(\\S+)`, "m").exec(text)?.[1];
    return (
      hard("Max core file size") === "0" &&
      ["Max open files", "Max processes"].every((name) => hard(name) !== "unlimited")
    );
  } catch {
    return !existsSync(`${proc}/${pid}`);
  }
}

function cgroup(vmms: Vmm[], proc: string): Verdict {
  if (!new Cgroups().available())
    return weak(
      "no cgroup v2: a VMM can take CPU and memory of others",
      "boot with the unified hierarchy (systemd's default)",
    );
  const outside = vmms.filter(({ pid }) => {
    try {
      return !readFileSync(`${proc}/${pid}/cgroup`, "latin1").includes("/bhatti");
    } catch {
      return false;
    }
  });
  return outside.length === 0
    ? good("CPU, memory and threads of each VMM are bounded")
    : bad(`${outside.length} VMMs are in no group of their own`, "stop and start these sandboxes");
}
