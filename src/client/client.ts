import { AdminClient } from "./admin.ts";
import { ExecClient } from "./exec.ts";
import { FilesClient } from "./files.ts";
import { Http, type HttpOptions } from "./http.ts";
import { PublishClient } from "./publish.ts";
import { SandboxesClient } from "./sandboxes.ts";
import { SecretsClient } from "./secrets.ts";
import { SnapshotsClient } from "./snapshots.ts";

/** Everything the service offers over HTTP, one noun per member. */
export class Client {
  readonly http: Http;
  readonly sandboxes: SandboxesClient;
  readonly exec: ExecClient;
  readonly files: FilesClient;
  readonly snapshots: SnapshotsClient;
  readonly secrets: SecretsClient;
  readonly publish: PublishClient;
  readonly admin: AdminClient;

  constructor(options: HttpOptions) {
    this.http = new Http(options);
    this.sandboxes = new SandboxesClient(this.http);
    this.exec = new ExecClient(this.http);
    this.files = new FilesClient(this.http);
    this.snapshots = new SnapshotsClient(this.http);
    this.secrets = new SecretsClient(this.http);
    this.publish = new PublishClient(this.http);
    this.admin = new AdminClient(this.http);
  }
}
