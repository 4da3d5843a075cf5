/** What keeps one service apart from the enclave and from the others, as far as the configuration decides it. */
import type { ServiceConfig } from "./enclave-config.ts";

/** @returns why it is not kept apart, to follow "service NAME", or null if it is. */
export function describeSharing(service: ServiceConfig, services: readonly ServiceConfig[]): string | null {
  const { uid } = service.user;
  if (uid === 0) return "runs as root, which may signal the enclave's own processes";
  const other = services.find((one) => one.name !== service.name && one.user.uid === uid);
  return other === undefined ? null : `shares its user ${service.user.name} with service ${other.name}`;
}
