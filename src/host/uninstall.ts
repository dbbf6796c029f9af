/** `bhatti host uninstall [--purge]`: takes away what setup brought. Without --purge data, users and configuration stay. */
import { existsSync } from "node:fs";
import { rm, rmdir } from "node:fs/promises";
import { configPath, loadConfig } from "../daemon/load-config.ts";
import { createLog } from "../lib/log.ts";
import { run } from "../lib/run.ts";
import { account, invoker } from "../lib/user-files.ts";
import { HostNetwork } from "../network/create.ts";
import { HELPER_DIR } from "../network/helper-lock.ts";
import { unmountReserve } from "../storage/reserve.ts";
import { forgetConfig } from "./person-config.ts";
import { removeService, stopService } from "./service.ts";
import { Steps } from "./step.ts";
import { isMounted, removeStorage, storageDir } from "./storage.ts";

export async function uninstall(purge: boolean): Promise<void> {
  const steps = new Steps(purge ? 4 : 3);
  const config = loadConfig(existsSync(configPath()) ? configPath() : "/nonexistent");
  await steps.run("stop the daemon; running sandboxes are saved", () => stopService("SIGUSR2"));
  await steps.run("service", removeService);
  await steps.run("network", () =>
    new HostNetwork({
      prefix: config.networkPrefix,
      base: config.networkBase,
      poolSize: 0,
      dnsUpstreams: [],
      allowedPrivate: [],
      log: createLog("error"),
    }).purge(),
  );
  if (purge) {
    await steps.run("data, configuration, keys", async () => {
      await rmdir(HELPER_DIR).catch(() => {});
      await removeStorage({ dataDir: config.dataDir, storage: storageDir() });
      for (const path of ["/etc/bhatti", "/var/log/bhatti"]) await rm(path, { recursive: true, force: true });
      const url = `http://localhost:${config.listen.slice(config.listen.lastIndexOf(":") + 1)}`;
      for (const person of [account("root"), invoker()])
        if (person) await forgetConfig(person, url).catch(() => {});
    });
  } else if (isMounted(config.dataDir)) {
    await unmountReserve(config.dataDir);
    await run(["umount", config.dataDir]).catch(() => {});
  }
}
