/**
 * The same body, once its first bytes are here: what fails before them throws, so that the answer can still be an error; after
 * them a stream can only be cut off.
 */
export async function begun(body: ReadableStream<Uint8Array>): Promise<ReadableStream<Uint8Array>> {
  const reader = body.getReader();
  let first: Awaited<ReturnType<typeof reader.read>> | null = await reader.read();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { value, done } = first ?? (await reader.read());
      first = null;
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
