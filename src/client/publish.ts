import type { PortStats, PublishedPort, PublishInput, Visibility } from "../publish/service.ts";
import { type Http, path } from "./http.ts";

export type { PortStats, PublishedPort, PublishInput, Visibility };

export class PublishClient {
  constructor(private readonly http: Http) {}

  /** A port that is published keeps its name: `existing`, and in `differs` what was asked for in vain. */
  publish(
    sandbox: string,
    input: PublishInput,
  ): Promise<PublishedPort & { existing?: boolean; differs?: string[] }> {
    return this.http.json("POST", path`/sandboxes/${sandbox}/publish`, { json: input });
  }

  /** Of one sandbox, or of all. */
  list(sandbox?: string, stats = false): Promise<PublishedPort[]> {
    const options = { query: { stats: stats || undefined } };
    return this.http.json(
      "GET",
      sandbox === undefined ? "/publish" : path`/sandboxes/${sandbox}/publish`,
      options,
    );
  }

  async unpublish(sandbox: string, port: number): Promise<void> {
    await this.http.request("DELETE", path`/sandboxes/${sandbox}/publish/${String(port)}`);
  }

  share(sandbox: string, port: number, seconds?: number): Promise<{ url: string; expires_at: string }> {
    return this.http.json("POST", path`/sandboxes/${sandbox}/publish/${String(port)}/share`, {
      json: { expires_in_s: seconds },
    });
  }

  async revoke(sandbox: string, port: number): Promise<void> {
    await this.http.request("DELETE", path`/sandboxes/${sandbox}/publish/${String(port)}/share`);
  }
}
