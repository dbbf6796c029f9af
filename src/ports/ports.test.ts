/** The list of all ports when some sandboxes do not answer. */
import { expect, test } from "bun:test";
import { Hono } from "hono";
import { respond } from "../http/server.ts";
import { AppError, notFound } from "../lib/errors.ts";
import { createLog } from "../lib/log.ts";
import type { Sandboxes } from "../sandboxes/service.ts";
import type { AppEnv } from "../users/app-env.ts";
import { proxyRoutes } from "./routes.ts";

test("who does not answer is named, with the reason; the others' ports are there", async () => {
  let released = 0;
  const failures: Record<string, Error> = {
    mute: new AppError("guest_unresponsive", "the agent does not answer", { remedy: "bhatti restart mute" }),
    odd: new Error("secret detail"),
  };
  const sandboxes = {
    list: () => ["a", "mute", "gone", "odd", "b"].map((name) => ({ id: `id-${name}`, name, thermal: "hot" })),
    lease: async (_user: unknown, id: string) => {
      if (id === "id-gone") throw notFound("sandbox not found");
      return {
        guest: {
          async ports() {
            const failure = failures[id.slice(3)];
            if (failure) throw failure;
            return [{ port: id === "id-a" ? 80 : 8080, address: "0.0.0.0" }];
          },
        },
        release: () => released++,
      };
    },
  } as unknown as Sandboxes;
  const app = new Hono<AppEnv>();
  app.use(async (c, next) => {
    c.set("user", { id: "u" } as never);
    c.set("tell", (error) => respond(error, "req_1", createLog("silent")));
    await next();
  });
  app.route("/", proxyRoutes({ sandboxes }));
  const answer = await app.request("/ports");
  expect([answer.status, await answer.json()]).toEqual([
    200,
    [
      { sandbox_id: "id-a", container_port: 80, proxy_url: "/sandboxes/id-a/proxy/80/" },
      {
        ...{ sandbox_id: "id-mute", sandbox: "mute", error: "the agent does not answer" },
        ...{ code: "guest_unresponsive", remedy: "bhatti restart mute", request_id: "req_1" },
      },
      expect.objectContaining({ sandbox: "odd", error: "internal error", code: "internal" }),
      { sandbox_id: "id-b", container_port: 8080, proxy_url: "/sandboxes/id-b/proxy/8080/" },
    ],
  ]);
  expect(released).toBe(4);
});
