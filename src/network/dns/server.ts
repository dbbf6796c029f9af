/** The resolver of all sandboxes: names of the same owner are answered here, everything else is forwarded. */
import type { Logger } from "pino";
import { answer, encodeName, formError, parseQuestion, type Question, RCODE, TYPE } from "./message.ts";
import { hostResolvers, Upstream } from "./upstream.ts";

export interface DnsOptions {
  /** Host address to bind; sandboxes reach it through their bridge. */
  address: string;
  upstreams: string[];
  log: Logger;
}

/** Queries of one sandbox that may be in flight; more are dropped. */
const MAX_PER_CLIENT = 64;

export class DnsServer {
  /** By address of the sandbox: who asks decides what is seen. Source addresses cannot be forged (bridge rules). */
  private readonly owners = new Map<string, { owner: string; name: string }>();
  private readonly busy = new Map<string, number>();
  private readonly upstream: Upstream;
  private udp: { close(): void } | null = null;
  private tcp: Bun.TCPSocketListener<{ buffer: Buffer }> | null = null;

  constructor(private readonly options: DnsOptions) {
    this.upstream = new Upstream(options.upstreams.length > 0 ? options.upstreams : hostResolvers());
  }

  set(owner: string, address: string, name: string): void {
    this.owners.set(address, { owner, name: name.toLowerCase() });
  }

  delete(address: string): void {
    this.owners.delete(address);
  }

  async start(): Promise<void> {
    const { address } = this.options;
    this.udp = await Bun.udpSocket({
      hostname: address,
      port: 53,
      socket: {
        data: (socket, data, port, client) => {
          void this.bounded(client, () => this.reply(new Uint8Array(data), client, false)).then((reply) => {
            if (reply) socket.send(reply, port, client);
          });
        },
      },
    });
    this.tcp = Bun.listen<{ buffer: Buffer }>({
      hostname: address,
      port: 53,
      socket: {
        open: (socket) => {
          socket.data = { buffer: Buffer.alloc(0) };
          socket.timeout(10);
        },
        timeout: (socket) => void socket.end(),
        data: (socket, data) => {
          socket.data.buffer = Buffer.concat([socket.data.buffer, data]);
          const { buffer } = socket.data;
          if (buffer.length > 8192) return void socket.end();
          if (buffer.length < 2 || buffer.length < 2 + buffer.readUInt16BE(0)) return;
          const query = new Uint8Array(buffer.subarray(2, 2 + buffer.readUInt16BE(0)));
          socket.data.buffer = Buffer.alloc(0);
          const client = socket.remoteAddress;
          void this.bounded(client, () => this.reply(query, client, true)).then((reply) => {
            if (!reply) return void socket.end();
            const head = Buffer.alloc(2);
            head.writeUInt16BE(reply.length);
            socket.write(Buffer.concat([head, reply]));
          });
        },
      },
    });
  }

  async stop(): Promise<void> {
    this.udp?.close();
    this.tcp?.stop(true);
    this.udp = null;
    this.tcp = null;
  }

  /** What `client` gets for `query`; null: no answer. Never throws. */
  async reply(query: Uint8Array, client: string, tcp: boolean): Promise<Uint8Array | null> {
    try {
      const question = parseQuestion(query);
      if (!question) return formError(query);
      const asker = this.owners.get(client);
      if (!asker) return answer(query, question, RCODE.servFail);
      return (
        this.local(query, question, asker.owner) ??
        (await this.upstream.ask(query, question, tcp)) ??
        answer(query, question, RCODE.servFail)
      );
    } catch (err) {
      this.options.log.warn({ err }, "dns");
      return null;
    }
  }

  private local(query: Uint8Array, question: Question, owner: string): Uint8Array | null {
    if (question.type === TYPE.PTR) {
      const parts = question.name.match(/^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/);
      const address = parts ? `${parts[4]}.${parts[3]}.${parts[2]}.${parts[1]}` : "";
      const known = this.owners.get(address);
      if (known?.owner === owner)
        return answer(query, question, RCODE.ok, [encodeName(`${known.name}.internal`)]);
      return address.startsWith("10.") ? answer(query, question, RCODE.nxDomain) : null;
    }
    const name = question.name.replace(/\.(internal|sb)$/, "");
    for (const [address, known] of this.owners) {
      if (known.owner !== owner || known.name !== name) continue;
      return answer(
        query,
        question,
        RCODE.ok,
        question.type === TYPE.A ? [Uint8Array.from(address.split(".").map(Number))] : [],
      );
    }
    return question.name.endsWith(".internal") ? answer(query, question, RCODE.nxDomain) : null;
  }

  private async bounded(client: string, work: () => Promise<Uint8Array | null>): Promise<Uint8Array | null> {
    const count = this.busy.get(client) ?? 0;
    if (count >= MAX_PER_CLIENT) return null;
    this.busy.set(client, count + 1);
    try {
      return await work();
    } finally {
      const left = this.busy.get(client)! - 1;
      if (left > 0) this.busy.set(client, left);
      else this.busy.delete(client);
    }
  }
}
