import { VERSION } from "../../version.ts";
import { connect } from "../base/context.ts";
import { clean, printJson, say } from "../base/output.ts";
import { define, options } from "../base/program.ts";

export const command = () =>
  define(
    "version",
    "Version of this client; with --server that of the server as well. Without it nothing is asked over the network.",
    ["bhatti version", "bhatti version --server --json"],
  )
    .option("--server", "ask the server too (at most 2 s)")
    .option("--client", "this client only (the default)")
    .action(async (_flags, self) => {
      const flags = options<{ server?: boolean }>(self);
      if (!flags.server) return void (printJson({ version: VERSION }) || say(`bhatti ${VERSION}`));
      const client = connect(flags, { keyless: true });
      const { url, urlFrom } = client.endpoint;
      const response = await client.http.request("GET", "/health", { timeoutMs: 2000 });
      const body = (await response.json().catch(() => ({}))) as { version?: unknown };
      const server =
        response.headers.get("x-bhatti-version") ?? (typeof body.version === "string" ? body.version : null);
      if (printJson({ version: VERSION, api: url, api_from: urlFrom, server_version: server })) return;
      say(`bhatti ${VERSION}`);
      say(`api: ${url} (from ${urlFrom})`);
      say(`server: ${clean(server ?? "unknown")}`);
    });
