import { type ListedSecret, MAX_VALUE, type SecretView } from "../secrets/service.ts";
import { type Http, path } from "./http.ts";

export { type ListedSecret, MAX_VALUE, type SecretView };

export class SecretsClient {
  constructor(private readonly http: Http) {}

  /** Makes or replaces it. */
  set(name: string, value: Uint8Array): Promise<SecretView> {
    return this.http.json("POST", "/secrets", { json: { name, ...wire(Buffer.from(value)) } });
  }

  /** Sorted by name; no values. */
  list(): Promise<ListedSecret[]> {
    return this.http.json("GET", "/secrets");
  }

  delete(name: string): Promise<{ status: string; used_by?: string[] }> {
    return this.http.json("DELETE", path`/secrets/${name}`);
  }
}

/** Text as text, which every server takes. */
function wire(value: Buffer): { value: string } | { value_b64: string } {
  const text = value.toString("utf8");
  return Buffer.from(text).equals(value) ? { value: text } : { value_b64: value.toString("base64") };
}
