/** Stored secrets of users. Values go in and reach guests; nothing gives them back. */
import type { User } from "../users/user.ts";
import type { SecretRef } from "./reference.ts";

/** Bytes of one value: half of what Linux takes as one environment variable (MAX_ARG_STRLEN, execve(2)). */
export const MAX_VALUE = 64 * 1024;
/** Bytes of all values that one sandbox has as variables, and as files: both travel in one request to its agent. */
export const MAX_ENV_BYTES = 128 * 1024;
export const MAX_FILE_BYTES = 256 * 1024;

/** The wire object. Members up to `updated_at` are v1's. */
export interface SecretView {
  name: string;
  created_at: string;
  updated_at: string;
}

export interface ListedSecret extends SecretView {
  /** Names of sandboxes that are given it. */
  used_by: string[];
}

export interface Secrets {
  /**
   * Makes or replaces it; new processes of sandboxes that are given it have the new value when this returns. Throws
   * limit_reached, and conflict for a value that a sandbox which is given it cannot take.
   */
  set(user: User, name: string, value: Uint8Array): Promise<SecretView>;
  /** Sorted by name. */
  list(user: User): ListedSecret[];
  /** Throws not_found. Sandboxes that are given it run on, without it. */
  delete(user: User, name: string): Promise<{ used_by: string[] }>;
}

/** A file as the guest gets it. */
export interface SecretFile {
  path: string;
  /** Base64. */
  content: string;
  mode: string;
  owner: string;
}

/** What sandboxes are given. A secret that was deleted is left out. */
export interface SecretSource {
  /** Grows with every change of that owner's secrets; of this daemon's run. */
  version(userId: string): number;
  /** Throws bad_request for a secret that does not exist, is not fit for its place, or that is one too much. */
  assertUsable(userId: string, refs: readonly SecretRef[]): void;
  /** Throws bad_request when they are too many or too large for one sandbox. */
  assertTogether(userId: string, refs: readonly SecretRef[]): void;
  /** Throws secret_unreadable. */
  environment(userId: string, refs: readonly SecretRef[]): Promise<Record<string, string>>;
  /** Throws secret_unreadable. */
  files(userId: string, refs: readonly SecretRef[]): Promise<SecretFile[]>;
}

/** What secrets need to know of sandboxes; the first is called inside transactions. */
export interface SecretUsers {
  /** Sandboxes of the user that are given secrets. */
  given(userId: string): { name: string; refs: SecretRef[] }[];
  /** Brings files of sandboxes that run up to date; bounded in time, throws nothing. */
  changed(userId: string, secret: string): Promise<void>;
}
