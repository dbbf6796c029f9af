import type { CreateBody, SandboxView } from "../../client/sandboxes.ts";
import { connect } from "../base/context.ts";
import { usage } from "../base/errors.ts";
import { addToCache } from "../base/names-cache.ts";
import { clean, notice, printJson, say } from "../base/output.ts";
import {
  collect,
  envFile,
  environment,
  fileMapping,
  filled,
  integer,
  mebibytes,
  pairs,
  seconds,
  secretFiles,
  secretVariables,
} from "../base/parse.ts";
import { define, options } from "../base/program.ts";
import { withSpinner } from "../base/progress.ts";
import { sayCreated } from "./created.ts";
import { laterOption } from "./later.ts";
import { readLocal } from "./local-file.ts";
import { onUnresponsive } from "./unresponsive.ts";

interface Flags {
  name?: string;
  image?: string;
  cpus?: number;
  memory?: number;
  diskSize?: number;
  env?: string[];
  envFile?: string[];
  init?: string;
  keepHot?: boolean;
  label?: string[];
  file?: string[];
  warmAfter?: number;
  coldAfter?: number;
  idempotencyKey?: string;
  onUnresponsive?: "none" | "restart";
  secret?: string[];
  secretFile?: string[];
}

export const command = () =>
  define(
    "create [name]",
    "Create a sandbox and wait until it answers. An existing one of that name is left as it is.",
    [
      "bhatti create dev",
      "bhatti create ci --cpus 2 --memory 2G --disk-size 8G --label team=web",
      "bhatti create app --env MODE=test --env-file .env --file ./run.sh:/workspace/run.sh:0755",
      "bhatti create web --secret NPM_TOKEN --secret-file TLS_KEY:/etc/ssl/private/server.key",
      "bhatti create job --cold-after never --json",
    ],
  )
    .option("--name <name>", "same as the argument", filled("--name"))
    .option("--image <image>", "root file system")
    .option("--cpus <n>", "virtual CPUs", integer("--cpus", 1, 256))
    .option("--memory <size>", "512 (MiB), 512M, 2G", mebibytes("--memory"))
    .option("--disk-size <size>", "grow the disk to this: 4096 (MiB), 8G", mebibytes("--disk-size"))
    .option("--env <NAME=value>", "environment of everything that runs in it (repeatable)", collect)
    .option("--env-file <file>", "NAME=value lines, taken literally (repeatable)", collect)
    .option("--init <script>", "shell script that runs after the start")
    .option("--keep-hot", "never put to sleep")
    .option("--label <key=value>", "label (repeatable)", collect)
    .option("--file <local:guest[:mode]>", "copy a small file in before the start (repeatable)", collect)
    .option(
      "--secret <[VARIABLE=]name>",
      "a stored secret as a variable of everything that runs (repeatable)",
      collect,
    )
    .option(
      "--secret-file <name[:path[:mode[:owner]]]>",
      "a stored secret as a file, in memory; /run/secrets/<name>, 0400 (repeatable)",
      collect,
    )
    .option("--warm-after <time>", "pause after this much idleness: 30s, 10m, never", seconds("--warm-after"))
    .option("--cold-after <time>", "to disk after this much idleness", seconds("--cold-after"))
    .addOption(laterOption("--template <id>", "templates of users"))
    .addOption(laterOption("--volume <name:mount>", "volumes"))
    .option("--idempotency-key <key>", "the same key within 24 hours means the same sandbox")
    .addOption(onUnresponsive())
    .action(async (name: string | undefined, _flags, self) => {
      const flags = options<Flags>(self);
      if (name !== undefined) filled("the name")(name);
      if (name !== undefined && flags.name !== undefined && name !== flags.name)
        throw usage(`two names: "${name}" and "${flags.name}"`);
      const body = bodyOf(flags, name ?? flags.name);
      const client = connect(flags);
      const { sandbox, existing, differs } = await withSpinner("creating", () =>
        client.sandboxes.create(body, flags.idempotencyKey),
      );
      addToCache(client.endpoint.url, sandbox.name);
      if (differs.length > 0) warn(sandbox, differs);
      if (printJson({ ...sandbox, existing })) return;
      if (existing) return say(`sandbox/${clean(sandbox.name)} unchanged (already exists)`);
      sayCreated(sandbox, "created");
    });

function bodyOf(flags: Flags, name: string | undefined): CreateBody {
  let env: Record<string, string> = {};
  for (const file of flags.envFile ?? [])
    env = { ...env, ...envFile("--env-file", readLocal(file).toString("utf8")) };
  env = { ...env, ...environment("--env", flags.env) };
  const labels = pairs("--label", flags.label);
  const files = (flags.file ?? []).map((text) => {
    const { local: from, guest, mode } = fileMapping(text);
    return { guest_path: guest, content: readLocal(from).toString("base64"), mode };
  });
  const secrets = [...secretVariables(flags.secret), ...secretFiles(flags.secretFile)];
  return {
    name,
    image: flags.image,
    cpus: flags.cpus,
    memory_mb: flags.memory,
    disk_size_mb: flags.diskSize,
    env: Object.keys(env).length > 0 ? env : undefined,
    init: flags.init,
    keep_hot: flags.keepHot,
    labels: Object.keys(labels).length > 0 ? labels : undefined,
    files: files.length > 0 ? files : undefined,
    warm_after_s: flags.warmAfter,
    cold_after_s: flags.coldAfter,
    on_unresponsive: flags.onUnresponsive,
    secrets: secrets.length > 0 ? secrets : undefined,
  };
}

function warn(found: SandboxView, differs: string[]): void {
  const shown = differs.map((key) => {
    const value = found[key as keyof SandboxView];
    return typeof value === "object" || value === undefined ? key : `${key}=${clean(String(value))}`;
  });
  notice(
    `"${clean(found.name)}" exists and differs from what was asked: ${shown.join(", ")}; nothing was changed`,
  );
}
