/** Who is let in to a published port. A link and the cookie of who was let in are the same: an end and a signature over it. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { PublishRow } from "./rows.ts";

/** The query parameter of a link. */
export const LINK_PARAMETER = "bhatti_share";
/** How long a password holds, seconds. */
export const PASSWORD_S = 7 * 86_400;

/** What a request shows. */
export interface Shown {
  /** Value of our cookie. */
  cookie?: string;
  /** Of a link. */
  token?: string;
  /** Authorization as it was sent. */
  authorization?: string;
}

/** `expires`: ms since the epoch. */
export function sign(row: PublishRow, expires: number): string {
  const end = Math.floor(expires / 1000).toString(36);
  return `${end}.${signature(row, end)}`;
}

/** ms until which the token holds; null when it does not. */
export function holdsUntil(row: PublishRow, token: string | undefined, now: number): number | null {
  const [, end, given] = /^([0-9a-z]{1,10})\.([\w-]{43})$/.exec(token ?? "") ?? [];
  if (!end || !given) return null;
  if (!timingSafeEqual(Buffer.from(given), Buffer.from(signature(row, end)))) return null;
  const until = Number.parseInt(end, 36) * 1000;
  return until > now ? until : null;
}

const signature = (row: PublishRow, end: string): string =>
  createHmac("sha256", row.key).update(`${row.id}.${end}`).digest("base64url");

/** The password of `Authorization: Basic …`, whatever the name before it. */
export function basicPassword(authorization: string | undefined): string | null {
  const given = /^basic +([A-Za-z0-9+/=]+)$/i.exec(authorization ?? "")?.[1];
  if (!given) return null;
  const text = Buffer.from(given, "base64").toString("utf8");
  const at = text.indexOf(":");
  return at < 0 ? null : text.slice(at + 1);
}
