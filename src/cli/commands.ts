/** Every command: what it is for, where its code is. Only the chosen one is loaded. */
import type { Command } from "commander";

export interface CommandModule {
  command(): Command;
  /** Rewrites the arguments before they are parsed. */
  prepare?(args: string[]): string[];
}

export interface Entry {
  name: string;
  aliases?: string[];
  summary: string;
  group: "Sandboxes" | "Resources" | "Setup & Admin" | "More";
  hidden?: boolean;
  /** Parses its arguments itself. */
  raw?(args: string[]): Promise<number>;
  load?(): Promise<CommandModule>;
}

export const COMMANDS: Entry[] = [
  { name: "create", group: "Sandboxes", summary: "create a sandbox", load: () => import("./create.ts") },
  {
    name: "list",
    aliases: ["ls"],
    group: "Sandboxes",
    summary: "list sandboxes",
    load: () => import("./list.ts"),
  },
  {
    name: "inspect",
    aliases: ["info"],
    group: "Sandboxes",
    summary: "show one sandbox",
    load: () => import("./inspect.ts"),
  },
  {
    name: "edit",
    group: "Sandboxes",
    summary: "rename, label, change idle times",
    load: () => import("./edit.ts"),
  },
  {
    name: "exec",
    group: "Sandboxes",
    summary: "run a command in a sandbox",
    load: () => import("./exec.ts"),
  },
  {
    name: "stop",
    group: "Sandboxes",
    summary: "put sandboxes to sleep on disk",
    load: () => import("./stop.ts"),
  },
  { name: "start", group: "Sandboxes", summary: "wake sandboxes", load: () => import("./start.ts") },
  {
    name: "destroy",
    aliases: ["rm"],
    group: "Sandboxes",
    summary: "delete sandboxes and their disks",
    load: () => import("./destroy.ts"),
  },
  {
    name: "fork",
    group: "Sandboxes",
    summary: "running copies of a running sandbox",
    load: () => import("./fork.ts"),
  },
  {
    name: "file",
    group: "Resources",
    summary: "read and write files in a sandbox",
    load: () => import("./file.ts"),
  },
  {
    name: "snapshot",
    group: "Resources",
    summary: "named snapshots: create, resume, restore, export",
    load: () => import("./snapshot.ts"),
  },
  {
    name: "ps",
    group: "Resources",
    summary: "processes of a sandbox, or what all sandboxes do",
    load: () => import("./ps.ts"),
  },
  {
    name: "ports",
    group: "Resources",
    summary: "listening ports of a sandbox",
    load: () => import("./ports.ts"),
  },
  {
    name: "setup",
    group: "Setup & Admin",
    summary: "save server address and API key",
    load: () => import("./setup.ts"),
  },
  { name: "doctor", group: "Setup & Admin", summary: "check this host", load: () => import("./doctor.ts") },
  {
    name: "user",
    group: "Setup & Admin",
    summary: "tenants and their keys (on the server)",
    load: () => import("./user.ts"),
  },
  {
    name: "admin",
    group: "Setup & Admin",
    summary: "status, events and metrics",
    load: () => import("./admin.ts"),
  },
  { name: "serve", group: "Setup & Admin", summary: "run the daemon", load: () => import("./serve.ts") },
  {
    name: "version",
    group: "More",
    summary: "version of client and server",
    load: () => import("./version.ts"),
  },
  {
    name: "completion",
    group: "More",
    summary: "completion script for bash, zsh or fish",
    load: () => import("./completion.ts"),
  },
  {
    name: "host",
    group: "Setup & Admin",
    summary: "install and maintain this host",
    hidden: true,
    raw: async (args) => (await import("./host.ts")).host(args),
  },
  {
    name: "__complete",
    group: "More",
    summary: "candidates for shell completion",
    hidden: true,
    raw: async (args) => (await import("./complete.ts")).complete(args),
  },
];

/** By name or alias. */
export function find(word: string): Entry | undefined {
  return COMMANDS.find((c) => c.name === word || c.aliases?.includes(word));
}
