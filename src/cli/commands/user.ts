import type { User } from "../../users/user.ts";
import { usage } from "../base/errors.ts";
import { bytes } from "../base/format.ts";
import { clean, printJson, say, table } from "../base/output.ts";
import { integer, mebibytes } from "../base/parse.ts";
import { define, group, options } from "../base/program.ts";
import { confirm } from "../base/prompt.ts";
import { localCommand } from "./user-store.ts";

interface Limits {
  maxSandboxes?: number;
  maxCpus?: number;
  maxMemory?: number;
  maxSnapshots?: number;
  maxSecrets?: number;
  maxPublished?: number;
  maxStorage?: number;
  dataDir?: string;
}

export const command = () =>
  group(
    "user",
    "Tenants and their API keys. On the server itself, as root; the daemon need not run.",
    [create(), list(), limits(), rotateKey(), remove()],
    ["sudo bhatti user create alice", "sudo bhatti user list", "sudo bhatti user rotate-key alice"],
  );

const withData = (usageLine: string, summary: string, examples: string[]) =>
  define(usageLine, summary, examples).option(
    "--data-dir <dir>",
    "directory of the database (/var/lib/bhatti)",
  );

const withLimits = (command: ReturnType<typeof define>) =>
  command
    .option("--max-sandboxes <n>", "how many sandboxes (5)", integer("--max-sandboxes", 0, 1_000_000))
    .option("--max-cpus <n>", "CPUs of one sandbox (4)", integer("--max-cpus", 1, 1024))
    .option("--max-memory <size>", "memory of one sandbox: 4096 (MiB), 4G", mebibytes("--max-memory"))
    .option("--max-snapshots <n>", "how many snapshots (5)", integer("--max-snapshots", 0, 1_000_000))
    .option("--max-secrets <n>", "how many secrets (100)", integer("--max-secrets", 0, 1_000_000))
    .option("--max-published <n>", "how many published ports (50)", integer("--max-published", 0, 1_000_000))
    .option(
      "--max-storage <size>",
      "disk that all of them may hold together: 500G, none (100G; operators none)",
      (text: string) => (text === "none" ? 0 : mebibytes("--max-storage")(text)),
    );

const limitsOf = (flags: Limits) => ({
  maxSandboxes: flags.maxSandboxes,
  maxCpusPerSandbox: flags.maxCpus,
  maxMemoryMbPerSandbox: flags.maxMemory,
  maxSnapshots: flags.maxSnapshots,
  maxSecrets: flags.maxSecrets,
  maxPublished: flags.maxPublished,
  maxStorageMb: flags.maxStorage,
});

const create = () =>
  withLimits(
    withData("create [name]", "Create a user and print its API key, once.", [
      "sudo bhatti user create alice",
      "sudo bhatti user create ops --admin --max-sandboxes 100 --max-memory 16G",
      "sudo bhatti user create ci --json",
    ])
      .option("--name <name>", "same as the argument")
      .option("--admin", "an operator: sees metrics, status and everyone's events"),
  ).action(async (argument: string | undefined, _flags, self) => {
    const flags = options<Limits & { name?: string; admin?: boolean }>(self);
    const name = argument ?? flags.name;
    if (!name || (argument && flags.name && argument !== flags.name))
      throw usage("one name is needed", "bhatti user create <name>");
    const { users, key } = await localCommand(flags.dataDir, {
      op: "create",
      name,
      admin: flags.admin,
      limits: limitsOf(flags),
    });
    const { user } = users[0]!;
    if (printJson({ ...wire(user), api_key: key })) return;
    say("User created:");
    say(`  ID:      ${user.id}`);
    say(`  Name:    ${clean(user.name)}${user.admin ? " (operator)" : ""}`);
    say(`  Subnet:  ${user.subnetIndex}`);
    say(`  API key: ${key}`);
    say("\nThe key is shown this once. To use it:");
    say("  bhatti setup          # asks for address and key");
    say("  bhatti create dev");
  });

const list = () =>
  withData("list", "List users with their limits.", [
    "sudo bhatti user list",
    "sudo bhatti user list --json",
  ]).action(async (_flags, self) => {
    const flags = options<Limits>(self);
    const { users: all } = await localCommand(flags.dataDir, { op: "list" });
    if (
      printJson(
        all.map(({ user, sandboxes, storageMb }) => ({ ...wire(user), sandboxes, storage_mb: storageMb })),
      )
    )
      return;
    table(
      [
        "ID",
        "NAME",
        "SANDBOXES",
        "CPUS",
        "MEM",
        "SNAPSHOTS",
        "SECRETS",
        "URLS",
        "STORAGE",
        "SUBNET",
        "ADMIN",
      ],
      all.map(({ user, sandboxes, storageMb }) => [
        user.id,
        user.name,
        `${sandboxes}/${user.maxSandboxes}`,
        String(user.maxCpusPerSandbox),
        String(user.maxMemoryMbPerSandbox),
        String(user.maxSnapshots),
        String(user.maxSecrets),
        String(user.maxPublished),
        `${storageMb === null ? "?" : bytes(storageMb * 1048576)}/${limit(user.maxStorageMb)}`,
        String(user.subnetIndex),
        user.admin ? "yes" : "-",
      ]),
    );
  });

const limits = () =>
  withLimits(
    withData("limits <name>", "Show a user's limits, or change those given. What exists already stays.", [
      "sudo bhatti user limits alice",
      "sudo bhatti user limits alice --max-sandboxes 20 --max-memory 8G",
      "sudo bhatti user limits alice --max-storage 500G",
    ]),
  ).action(async (name: string, _flags, self) => {
    const flags = options<Limits>(self);
    const wanted = limitsOf(flags);
    const unchanged = Object.values(wanted).every((value) => value === undefined);
    const { users } = await localCommand(
      flags.dataDir,
      unchanged ? { op: "show", name } : { op: "limits", name, limits: wanted },
    );
    const { user, storageMb } = users[0]!;
    if (printJson({ ...wire(user), storage_mb: storageMb })) return;
    const held = storageMb === null ? "" : ` (${bytes(storageMb * 1048576)} held)`;
    say(
      `${clean(user.name)}: ${user.maxSandboxes} sandboxes, ${user.maxCpusPerSandbox} CPUs and ${user.maxMemoryMbPerSandbox} MB each, ${user.maxSnapshots} snapshots, ${user.maxSecrets} secrets, ${user.maxPublished} published ports, ${limit(user.maxStorageMb)} of disk${held}`,
    );
  });

const rotateKey = () =>
  withData("rotate-key <name>", "Give a user a new API key. The old one stops working at once.", [
    "sudo bhatti user rotate-key alice",
  ]).action(async (name: string, _flags, self) => {
    const flags = options<Limits>(self);
    const { key } = await localCommand(flags.dataDir, { op: "rotate-key", name });
    if (printJson({ name, api_key: key })) return;
    say(`API key: ${key}`);
    say("The key is shown this once; the old one no longer works.");
  });

const remove = () =>
  withData("delete <name>", "Delete a user. Refused while it owns sandboxes or snapshots.", [
    "sudo bhatti user delete alice --yes",
  ])
    .option("-y, --yes", "do not ask")
    .action(async (name: string, _flags, self) => {
      const flags = options<Limits & { yes?: boolean }>(self);
      await confirm(`Delete user "${clean(name)}"?`, flags.yes);
      await localCommand(flags.dataDir, { op: "delete", name });
      if (!printJson({ status: "deleted", name })) say(`deleted user "${clean(name)}"`);
    });

/** MiB for people. */
const limit = (mb: number): string => (mb === 0 ? "any amount" : bytes(mb * 1048576));

/** The record as --json prints it; members that v1 had keep their names. */
const wire = (user: User) => ({
  id: user.id,
  name: user.name,
  admin: user.admin,
  max_sandboxes: user.maxSandboxes,
  max_cpus_per_sandbox: user.maxCpusPerSandbox,
  max_memory_mb_per_sandbox: user.maxMemoryMbPerSandbox,
  subnet_index: user.subnetIndex,
  max_volume_storage_mb: user.maxVolumeStorageMb,
  max_images: user.maxImages,
  max_snapshots: user.maxSnapshots,
  max_secrets: user.maxSecrets,
  max_published: user.maxPublished,
  max_storage_mb: user.maxStorageMb,
  created_at: user.createdAt,
});
