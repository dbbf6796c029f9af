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
