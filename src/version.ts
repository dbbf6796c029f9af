import { version } from "../package.json";

/** Of this build: client, daemon and guest agent are released together. */
export const VERSION: string = version;
