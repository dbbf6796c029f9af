/** One shape for every error that may reach a client: stable code, HTTP status, message, remedy. */

export type ErrorCode =
  | "bad_request"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "method_not_allowed"
  | "conflict"
  | "too_large"
  | "limit_reached"
  | "rate_limited"
  | "not_running"
  | "memory_lost"
  | "restore_failed"
  | "disk_full"
  | "memory_full"
  | "guest_failed"
  | "guest_unresponsive"
  | "timeout"
  | "unavailable"
  | "not_implemented"
  | "secret_unreadable"
  | "internal";

const STATUS: Record<ErrorCode, number> = {
  bad_request: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  too_large: 413,
  limit_reached: 429,
  rate_limited: 429,
  not_running: 409,
  memory_lost: 409,
  restore_failed: 500,
  disk_full: 507,
  memory_full: 503,
  guest_failed: 500,
  guest_unresponsive: 504,
  timeout: 504,
  unavailable: 503,
  not_implemented: 501,
  secret_unreadable: 500,
  internal: 500,
};

export class AppError extends Error {
  readonly status: number;
  constructor(
    readonly code: ErrorCode,
    message: string,
    options: ErrorOptions & {
      /** What the user can do about it; a sentence or a command. */
      remedy?: string;
      status?: number;
      /** Sent as Retry-After, seconds. */
      retryAfter?: number;
    } = {},
  ) {
    super(message, options);
    this.name = "AppError";
    this.status = options.status ?? STATUS[code];
    this.remedy = options.remedy;
    this.retryAfter = options.retryAfter;
  }
  readonly remedy: string | undefined;
  readonly retryAfter: number | undefined;
}

/** `message` says what was not found, by its name. */
export const notFound = (message: string, remedy?: string) => new AppError("not_found", message, { remedy });
export const badRequest = (message: string, remedy?: string) =>
  new AppError("bad_request", message, { remedy });
export const conflict = (message: string, remedy?: string) => new AppError("conflict", message, { remedy });
