/** Progress of the installation: one line a step, with its time. */
export class Steps {
  private n = 0;

  constructor(private readonly total: number) {}

  /** Runs one step; its notes are shown as it goes. */
  async run<T>(name: string, work: (note: (text: string) => void) => Promise<T>): Promise<T> {
    this.n++;
    const began = performance.now();
    console.log(`[${this.n}/${this.total}] ${name}`);
    try {
      return await work((text) => console.log(`      ${text}`));
    } finally {
      console.log(`      ${((performance.now() - began) / 1000).toFixed(1)} s`);
    }
  }
}
