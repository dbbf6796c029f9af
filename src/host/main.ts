/** `bhatti host …`: maintenance of the server itself. */
import { parseArgs } from "node:util";
import { usage } from "../cli/base/errors.ts";
import { mebibytes } from "../cli/base/parse.ts";
import { loadConfig } from "../daemon/load-config.ts";
import { loharPath } from "../daemon/programs.ts";
import { buildImage, type Distro } from "../images/build.ts";
import { installKernel } from "../kernel/install.ts";
import { makePrivate } from "../storage/permissions.ts";

const HELP = `usage: bhatti host COMMAND

  setup [--storage DIR] [--no-loopback] [--distro debian|ubuntu] [--listen ADDR]
        [--memory-pool SIZE]               install or repair this server
  mount                                    mounts the data's files; the service does it at its start
  memory-pool SIZE                         makes the reserve for guest memory larger, e.g. 64G
  kernel                                   install the distribution's newest guest kernel
  secret-key [show|rotate|forget]          key of stored secrets; 'forget' removes those whose key is lost
  image minimal [--distro D] [--force]     build the image
  service start|stop|restart|status        the daemon ('stop --save' saves running sandboxes first)
  supervise                                run the daemon and keep it running (without systemd)
  uninstall [--purge]                      remove the server; --purge also its data

Examples:
  sudo bhatti host service status
  sudo bhatti host setup --storage /srv
  sudo bhatti host memory-pool 64G`;

const parse = (args: string[]) =>
  parseArgs({
    args,
    allowPositionals: true,
    options: {
      storage: { type: "string", default: "/var/lib" },
      "no-loopback": { type: "boolean", default: false },
      distro: { type: "string", default: "debian" },
      listen: { type: "string", default: "127.0.0.1:8080" },
      "memory-pool": { type: "string", default: "" },
      force: { type: "boolean", default: false },
      purge: { type: "boolean", default: false },
      save: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });

function parsed(args: string[]): ReturnType<typeof parse> {
  try {
    return parse(args);
  } catch (error) {
    // Of the message the first sentence; what follows explains how to pass a file called like a flag.
    throw usage((error as Error).message.split(". ", 1)[0]!, "see: bhatti host --help");
  }
}

/** Exit code. */
export async function hostMain(args: string[]): Promise<number> {
  const { values, positionals } = parsed(args);
  const [command, argument] = positionals;
  if (values.help || !command) {
    console.log(HELP);
    return values.help ? 0 : 2;
  }
  if (!["debian", "ubuntu"].includes(values.distro))
    throw usage(`--distro ${values.distro}: debian or ubuntu is expected`);
  if (process.getuid?.() !== 0)
    throw new Error(`bhatti host ${command} needs root: sudo bhatti host ${command}`);
  makePrivate();
  const distro = values.distro as Distro;
  const progress = (text: string) => console.log(text);
  switch (command) {
    case "setup":
      await (await import("./setup.ts")).setup({
        storage: values.storage,
        loopback: !values["no-loopback"],
        distro,
        listen: values.listen,
        memoryPoolMb: values["memory-pool"] ? mebibytes("--memory-pool")(values["memory-pool"]) : 0,
      });
      return 0;
    case "kernel": {
      const { dataDir } = loadConfig();
      console.log(await installKernel({ dataDir, lohar: await loharPath(dataDir), progress }));
      return 0;
    }
    case "mount": {
      const config = loadConfig();
      const { mountStorage, storageDir } = await import("./storage.ts");
      const { mountOwnReserve } = await import("../daemon/reserve.ts");
      await mountStorage({ dataDir: config.dataDir, storage: storageDir() });
      await mountOwnReserve(config, progress);
      return 0;
    }
    case "memory-pool": {
      const sizeMb = mebibytes("memory-pool")(argument ?? "");
      const { growReserve } = await import("../storage/reserve.ts");
      const { reserveChoice } = await import("../daemon/reserve.ts");
      await growReserve({ ...reserveChoice(loadConfig()), sizeMb });
      console.log(
        `the reserve has ${sizeMb} MiB; restart the daemon to use them: bhatti host service restart`,
      );
      return 0;
    }
    case "secret-key":
      await (await import("./secret-key.ts")).secretKey(loadConfig(), argument);
      return 0;
    case "image":
      if (argument !== undefined && argument !== "minimal")
        throw usage(`image ${argument}: only 'minimal' can be built yet`);
      await buildImage({
        dataDir: loadConfig().dataDir,
        name: argument ?? "minimal",
        distro,
        progress,
        force: values.force,
      });
      return 0;
    case "service": {
      const service = await import("./service.ts");
      if (argument === "start" || argument === "restart") await service.startService(argument === "restart");
      else if (argument === "stop") await service.stopService(values.save ? "SIGUSR2" : "SIGTERM");
      else if (argument === undefined || argument === "status") console.log(service.serviceStatus());
      else throw usage(`service ${argument}: start, stop, restart or status is expected`);
      return 0;
    }
    case "supervise":
      return (await import("./service.ts")).supervise();
    case "uninstall":
      await (await import("./uninstall.ts")).uninstall(values.purge);
      return 0;
    default:
      console.error(HELP);
      return 2;
  }
}
