/** A tenant: owns sandboxes, holds keys, has caps. */
export interface User {
  id: string;
  name: string;
  /** Operators see metrics, events of everyone, and `admin status`. */
  admin: boolean;
  subnetIndex: number;
  maxSandboxes: number;
  maxCpusPerSandbox: number;
  maxMemoryMbPerSandbox: number;
  maxVolumeStorageMb: number;
  maxSnapshots: number;
  /** Disk that all of its things may hold together, MiB; 0 = no limit. */
  maxStorageMb: number;
  maxImages: number;
  maxSecrets: number;
  /** Ports with a URL. */
  maxPublished: number;
  createdAt: string;
}
