/** 1536 → "1.5 KiB". */
export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = count;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds → "45s", "3m", "2h", "5d". */
export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s}s`;
  if (s < 7200) return `${Math.floor(s / 60)}m`;
  if (s < 172_800) return `${Math.floor(s / 3600)}h`;
  return `${Math.floor(s / 86_400)}d`;
}

/** Age of an RFC 3339 time; "-" for what is not one. */
export function age(time: string | undefined, now = Date.now()): string {
  const at = Date.parse(time ?? "");
  return Number.isNaN(at) ? "-" : span((now - at) / 1000);
}

/** "k=v,k2=v2" sorted by key, or "-". */
export function labels(map: Record<string, string> | undefined): string {
  const pairs = Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return pairs.length === 0 ? "-" : pairs.map(([k, v]) => `${k}=${v}`).join(",");
}

/** Local time, "2026-05-02 11:14:03"; what is not a time is returned as it is. */
export function localTime(time: string): string {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return time;
  const two = (n: number) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Secrets of a sandbox, each with where it goes unless that is the variable of its name. */
export function secretsOf(list: { name: string; env?: string; path?: string }[] = []): string {
  const one = ({ name, env, path }: (typeof list)[number]) => {
    const as = [env === name ? undefined : env, path].filter((word) => word !== undefined);
    return as.length > 0 ? `${name} (${as.join(", ")})` : name;
  };
  return list.map(one).join(", ") || "none";
}
