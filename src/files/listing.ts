/** A directory listing as a JSON array that is written while it is read. */
import type { FileEntry } from "../guest/guest.ts";
import { encode } from "../http/json.ts";
import { entryView } from "./entry.ts";

export function listingBody(batches: AsyncGenerator<FileEntry[], void>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let separator = "[";
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { value, done } = await batches.next();
        if (done) {
          controller.enqueue(encoder.encode(separator === "[" ? "[]\n" : "]\n"));
          return controller.close();
        }
        let text = "";
        for (const entry of value) {
          text += separator + encode(entryView(entry)).trimEnd();
          separator = ",";
        }
        if (text) controller.enqueue(encoder.encode(text));
        else await this.pull!(controller);
      } catch (error) {
        controller.error(error);
      }
    },
    async cancel() {
      await batches.return();
    },
  });
}
