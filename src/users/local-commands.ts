/** What root may do with users on the server itself: by the daemon's socket, or on the database while no daemon runs. */
import { notFound } from "../lib/errors.ts";
import type { Store } from "../store/store.ts";
import type { User } from "./user.ts";
import { type UserLimitsInput, Users } from "./users.ts";

export type LocalCommand =
  | { op: "create"; name: string; admin?: boolean; limits: UserLimitsInput }
  | { op: "list" }
  | { op: "show"; name: string }
  | { op: "limits"; name: string; limits: UserLimitsInput }
  | { op: "rotate-key"; name: string }
  | { op: "delete"; name: string };

export interface LocalResult {
  /** `storageMb`: null while no daemon runs to tell. */
  users: { user: User; sandboxes: number; storageMb: number | null }[];
  /** The new key of `create` and `rotate-key`. */
  key?: string;
}

type Record_ = (type: string, user: User, meta: Record<string, unknown>) => void;

/** Throws AppError for what the rules of users refuse. */
export function localCommands(
  store: Store,
  record: Record_,
  storageHeld?: (userId: string) => number,
): (command: LocalCommand) => LocalResult {
  const users = new Users(store);
  const count = store.db.query<{ n: number }, [string]>(
    "SELECT count(*) AS n FROM sandboxes WHERE created_by = ?",
  );
  const found = (user: User) => ({
    user,
    sandboxes: count.get(user.id)?.n ?? 0,
    storageMb: storageHeld ? Math.ceil(storageHeld(user.id) / 1048576) : null,
  });
  const known = (name: string): User => {
    const user = users.byName(name);
    if (!user) throw notFound(`user "${name}" not found`, "bhatti user list shows the users");
    return user;
  };
  return (command) => {
    switch (command.op) {
      case "create": {
        const { user, key } = users.create({ name: command.name, admin: command.admin, ...command.limits });
        record("user.created", user, {
          max_sandboxes: user.maxSandboxes,
          subnet_index: user.subnetIndex,
        });
        return { users: [found(user)], key };
      }
      case "list":
        return { users: users.list().map(found) };
      case "show":
        return { users: [found(known(command.name))] };
      case "limits": {
        const user = users.setLimits(command.name, command.limits);
        record("user.limits_changed", user, { ...command.limits });
        return { users: [found(user)] };
      }
      case "rotate-key": {
        const key = users.rotateKey(command.name);
        record("user.key_rotated", known(command.name), {});
        return { users: [found(known(command.name))], key };
      }
      case "delete": {
        const user = known(command.name);
        users.delete(command.name);
        record("user.deleted", user, {});
        return { users: [{ user, sandboxes: 0, storageMb: null }] };
      }
    }
  };
}
