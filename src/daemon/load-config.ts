/** Reads the configuration file: docs/configuration.md. */
import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import { type Config, DEFAULTS } from "./config.ts";

const seconds = z.number().int().min(0).max(31_536_000);

const fileSchema = z.strictObject({
  listen: z
    .string()
    .regex(/^.*:\d{1,5}$/, "must look like 127.0.0.1:8080")
    .optional(),
  data_dir: z.string().startsWith("/").optional(),
  engine: z.enum(["auto", "qemu", "firecracker"]).optional(),
  dns_upstreams: z.array(z.string()).max(8).optional(),
  warm_after_s: seconds.optional(),
  cold_after_s: seconds.optional(),
  probe_every_s: seconds.optional(),
  memory_budget_mb: z.number().int().min(0).optional(),
  max_disk_mb: z.number().int().min(1024).max(16_777_216).optional(),
  memory_pool_file: z.string().startsWith("/").optional(),
  memory_pool_mb: z.number().int().min(0).optional(),
  max_concurrent_wakes: z.number().int().min(1).max(256).optional(),
  network_pool: z.number().int().min(0).max(256).optional(),
  vm_pool: z.number().int().min(0).max(64).optional(),
  templates: z
    .array(
      z.strictObject({
        image: z.string().default("minimal"),
        cpus: z.number().min(0.1).max(64).default(1),
        memory_mb: z.number().int().min(128).max(1_048_576).default(1024),
      }),
    )
    .max(16)
    .optional(),
  template_budget_mb: z.number().int().min(0).optional(),
  shutdown_deadline_s: z.number().int().min(1).max(3600).optional(),
  log_level: z.enum(["debug", "info", "warn", "error"]).optional(),
  allowed_private: z.array(z.string()).max(64).optional(),
  age_key_file: z.string().startsWith("/").optional(),
  public_address: z.union([z.ipv4(), z.ipv6(), z.literal("none")]).optional(),
  trusted_proxies: z
    .array(z.union([z.cidrv4(), z.cidrv6()]))
    .max(64)
    .optional(),
  rate_factor: z.number().min(0).max(1000).optional(),
  network_prefix: z
    .string()
    .regex(/^[a-z]{2,4}$/)
    .optional(),
  network_base: z.number().int().min(0).max(60).optional(),
  // Of the client; a shared file is fine.
  api_url: z.string().optional(),
  auth_token: z.string().optional(),
});

/** `$BHATTI_CONFIG` alone if set, else /etc/bhatti/config.yaml, else the defaults. */
export function configPath(): string {
  return process.env.BHATTI_CONFIG ?? "/etc/bhatti/config.yaml";
}

/** Throws an Error whose message names the file, the key and what is expected. */
export function loadConfig(path = configPath()): Config {
  if (!existsSync(path)) {
    if (process.env.BHATTI_CONFIG) throw new Error(`${path}: no such file (BHATTI_CONFIG)`);
    return DEFAULTS;
  }
  const raw: unknown = Bun.YAML.parse(readFileSync(path, "utf8")) ?? {};
  const parsed = fileSchema.safeParse(raw);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new Error(`${path}: ${issue?.path.join(".") || "file"}: ${issue?.message}`);
  }
  const file = parsed.data;
  return {
    listen: file.listen ?? DEFAULTS.listen,
    dataDir: file.data_dir ?? DEFAULTS.dataDir,
    engine: file.engine ?? DEFAULTS.engine,
    dnsUpstreams: file.dns_upstreams ?? DEFAULTS.dnsUpstreams,
    warmAfterS: file.warm_after_s ?? DEFAULTS.warmAfterS,
    coldAfterS: file.cold_after_s ?? DEFAULTS.coldAfterS,
    probeEveryS: file.probe_every_s ?? DEFAULTS.probeEveryS,
    memoryBudgetMb: file.memory_budget_mb ?? DEFAULTS.memoryBudgetMb,
    maxDiskMb: file.max_disk_mb ?? DEFAULTS.maxDiskMb,
    memoryPoolFile: file.memory_pool_file ?? DEFAULTS.memoryPoolFile,
    memoryPoolMb: file.memory_pool_mb ?? DEFAULTS.memoryPoolMb,
    maxConcurrentWakes: file.max_concurrent_wakes ?? DEFAULTS.maxConcurrentWakes,
    networkPool: file.network_pool ?? DEFAULTS.networkPool,
    vmPool: file.vm_pool ?? DEFAULTS.vmPool,
    templates:
      file.templates?.map(({ image, cpus, memory_mb }) => ({ image, cpus, memoryMb: memory_mb })) ??
      DEFAULTS.templates,
    templateBudgetMb: file.template_budget_mb ?? DEFAULTS.templateBudgetMb,
    shutdownDeadlineS: file.shutdown_deadline_s ?? DEFAULTS.shutdownDeadlineS,
    logLevel: file.log_level ?? DEFAULTS.logLevel,
    allowedPrivate: file.allowed_private ?? DEFAULTS.allowedPrivate,
    ageKeyFile: file.age_key_file ?? DEFAULTS.ageKeyFile,
    publicAddress: file.public_address ?? DEFAULTS.publicAddress,
    trustedProxies: file.trusted_proxies ?? DEFAULTS.trustedProxies,
    rateFactor: file.rate_factor ?? DEFAULTS.rateFactor,
    networkPrefix: file.network_prefix ?? DEFAULTS.networkPrefix,
    networkBase: file.network_base ?? DEFAULTS.networkBase,
  };
}
