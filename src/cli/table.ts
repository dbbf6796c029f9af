/** Every command: what it is for, where its code is. Only the chosen one is loaded. */
import type { Entry } from "./entry.ts";

/** Words of v1 for what is not there yet. */
const later = (name: string, aliases?: string[]): Entry => ({
  name,
  aliases,
  group: "More",
  summary: "of v1, not there yet",
  hidden: true,
  raw: async () => (await import("./commands/later.ts")).later(name),
});

export const COMMANDS: Entry[] = [
  {
    name: "create",
    group: "Sandboxes",
    summary: "create a sandbox",
    load: () => import("./commands/create.ts"),
  },
  {
    name: "list",
    aliases: ["ls"],
    group: "Sandboxes",
    summary: "list sandboxes",
    load: () => import("./commands/list.ts"),
  },
  {
    name: "inspect",
    aliases: ["info"],
    group: "Sandboxes",
    summary: "show one sandbox",
    load: () => import("./commands/inspect.ts"),
  },
  {
    name: "edit",
    group: "Sandboxes",
    summary: "rename, label, change idle times",
    load: () => import("./commands/edit.ts"),
  },
  {
    name: "exec",
    group: "Sandboxes",
    summary: "run a command in a sandbox",
    load: () => import("./commands/exec.ts"),
  },
  {
    name: "stop",
    group: "Sandboxes",
    summary: "put sandboxes to sleep on disk",
    load: () => import("./commands/stop.ts"),
  },
  { name: "start", group: "Sandboxes", summary: "wake sandboxes", load: () => import("./commands/start.ts") },
  {
    name: "restart",
    group: "Sandboxes",
    summary: "boot sandboxes from their disks",
    load: () => import("./commands/restart.ts"),
  },
  {
    name: "destroy",
    aliases: ["rm"],
    group: "Sandboxes",
    summary: "delete sandboxes and their disks",
    load: () => import("./commands/destroy.ts"),
  },
  {
    name: "fork",
    group: "Sandboxes",
    summary: "running copies of a running sandbox",
    load: () => import("./commands/fork.ts"),
  },
  {
    name: "file",
    group: "Resources",
    summary: "read and write files in a sandbox",
    load: () => import("./commands/file.ts"),
  },
  {
    name: "snapshot",
    group: "Resources",
    summary: "named snapshots: create, resume, restore, export",
    load: () => import("./commands/snapshot.ts"),
  },
  {
    name: "secret",
    group: "Resources",
    summary: "values that sandboxes are given: set, list, delete",
    load: () => import("./commands/secret.ts"),
  },
  {
    name: "ps",
    group: "Resources",
    summary: "processes of a sandbox, or what all sandboxes do",
    load: () => import("./commands/ps.ts"),
  },
  {
    name: "ports",
    group: "Resources",
    summary: "listening ports of a sandbox",
    load: () => import("./commands/ports.ts"),
  },
  {
    name: "publish",
    group: "Resources",
    summary: "give ports URLs: publish, publish list",
    load: () => import("./commands/publish.ts"),
  },
  {
    name: "unpublish",
    group: "Resources",
    summary: "take URLs back",
    load: () => import("./commands/unpublish.ts"),
  },
  {
    name: "share",
    group: "Resources",
    summary: "links to a published port that expire",
    load: () => import("./commands/share.ts"),
  },
  {
    name: "console",
    group: "Resources",
    summary: "what a sandbox printed while it booted and since",
    load: () => import("./commands/console.ts"),
  },
  {
    name: "setup",
    group: "Setup & Admin",
    summary: "save server address and API key",
    load: () => import("./commands/setup.ts"),
  },
  {
    name: "doctor",
    group: "Setup & Admin",
    summary: "check this host",
    load: () => import("./commands/doctor.ts"),
  },
  {
    name: "user",
    group: "Setup & Admin",
    summary: "tenants and their keys (on the server)",
    load: () => import("./commands/user.ts"),
  },
  {
    name: "admin",
    group: "Setup & Admin",
    summary: "status, events and metrics",
    load: () => import("./commands/admin.ts"),
  },
  {
    name: "serve",
    group: "Setup & Admin",
    summary: "run the daemon",
    load: () => import("./commands/serve.ts"),
  },
  {
    name: "version",
    group: "More",
    summary: "version of client and server",
    load: () => import("./commands/version.ts"),
  },
  {
    name: "completion",
    group: "More",
    summary: "completion script for bash, zsh or fish",
    load: () => import("./commands/completion.ts"),
  },
  {
    name: "host",
    group: "Setup & Admin",
    summary: "install and maintain this host, as root",
    raw: async (args) => (await import("./commands/host.ts")).host(args),
  },
  {
    name: "__complete",
    group: "More",
    summary: "candidates for shell completion",
    hidden: true,
    raw: async (args) => (await import("./commands/complete.ts")).complete(args, COMMANDS),
  },
  later("shell", ["sh"]),
  ...["image", "volume", "update"].map((name) => later(name)),
];

/** By name or alias. */
export function find(word: string): Entry | undefined {
  return COMMANDS.find((c) => c.name === word || c.aliases?.includes(word));
}
