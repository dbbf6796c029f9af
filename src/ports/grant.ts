/** What a request to a port is let through to. */
import type { Grant } from "../edge/passage.ts";
import type { Guest } from "../guest/guest.ts";
import type { GuestLease } from "../sandboxes/service.ts";

/** A machine that was restored, rolled back or booted has another client of its agent: no connection of the old one fits. */
const lives = new WeakMap<Guest, number>();
let lastLife = 0;

/** `name`: of the sandbox, for messages. */
export function grantOf(lease: GuestLease, name: string, port: number): Grant {
  const { guest, sandboxId } = lease;
  let life = lives.get(guest);
  if (life === undefined) {
    life = ++lastLife;
    lives.set(guest, life);
  }
  return {
    target: `${sandboxId}-${life}-${port}`,
    sandbox: name,
    port,
    open: () => guest.forward(port),
    revoked: lease.revoked,
  };
}
