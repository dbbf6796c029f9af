/** Attaches and releases without end; a test kills it. Arguments: prefix, base. */
import pino from "pino";
import { HostNetwork } from "./create.ts";

const [prefix, base] = process.argv.slice(2);
const network = new HostNetwork({
  poolSize: 2,
  dnsUpstreams: ["127.0.0.1"],
  prefix,
  base: Number(base),
  log: pino({ level: "silent" }),
});
await network.start([]);
console.log("started");
for (;;) {
  await Promise.all(
    [1, 1, 2].map(async (subnetIndex) => {
      const owner = { userId: String(subnetIndex), subnetIndex };
      const net = network.plan(owner);
      await network.attach(owner, net);
      await network.release(owner, net);
    }),
  );
}
