/** Names of published ports. They are host names' first labels, and one name space for all owners. */
import { randomBytes } from "node:crypto";

/** A label of a host name (RFC 1123), as v1 took it. */
const ALIAS = /^[a-z0-9][a-z0-9-]{0,62}$/;
export const MAX_ALIAS = 63;

/** Names that people or programs take for the server's own, or that mean something to mail, DNS or browsers. */
const RESERVED = new Set(
  "www mail admin status ns1 ns2 api app _acme-challenge autoconfig autodiscover wpad isatap localhost hostmaster postmaster root webmaster smtp imap pop ftp ssh".split(
    " ",
  ),
);

/** What is wrong with a chosen alias; null = nothing. `own`: labels that the server's configuration uses. */
export function aliasProblem(alias: string, own: ReadonlySet<string>): string | null {
  if (RESERVED.has(alias) || own.has(alias)) return `alias "${alias}" is reserved`;
  if (!ALIAS.test(alias)) return "alias must be lowercase alphanumeric with hyphens, 1-63 chars";
  // A punycode label can look like another; four numbers are an address to services such as nip.io.
  if (alias.startsWith("xn--") || /^(.*-)?\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}$/.test(alias))
    return `alias "${alias}" is reserved`;
  return null;
}

/** 32 letters that are told apart when read out; 20 of them are 100 bits. */
const LETTERS = "abcdefghijkmnpqrstuvwxyz23456789";
const SECRET_LENGTH = 20;

/** The sandbox's name, and what nobody can guess. */
export function generateAlias(name: string): string {
  const base =
    name
      .toLowerCase()
      .replace(/[^a-z0-9-]/g, "-")
      .replace(/^-+|-+$/g, "")
      .replace(/^xn--/, "x-")
      .slice(0, MAX_ALIAS - SECRET_LENGTH - 1)
      .replace(/-+$/, "") || "sandbox";
  const secret = [...randomBytes(SECRET_LENGTH)].map((byte) => LETTERS[byte & 31]).join("");
  return `${base}-${secret}`;
}
