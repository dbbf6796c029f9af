/** One holder at a time per key; others wait in order. */
export class KeyedMutex<K> {
  private readonly tails = new Map<K, Promise<unknown>>();

  /** Runs `work` when every earlier holder of `key` is done. Not reentrant. */
  with<T>(key: K, work: () => Promise<T>): Promise<T> {
    const before = this.tails.get(key) ?? Promise.resolve();
    const result = before.then(work, work);
    const tail = result.catch(() => {});
    this.tails.set(key, tail);
    void tail.then(() => {
      if (this.tails.get(key) === tail) this.tails.delete(key);
    });
    return result;
  }
}
