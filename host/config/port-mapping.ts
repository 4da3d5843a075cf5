import { isIP } from "node:net";

import type { PortSpec } from "./enclave-spec.ts";

/** Unlike compose, which listens on all addresses, a port without an address is reachable from this host only. */
const DEFAULT_ADDRESS = "127.0.0.1";

/**
 * `8080:80`, `127.0.0.1:8080:80`, `[::1]:8080:80`, or `80` (a free host port). Host port 0 means a free one.
 * @returns undefined if the text is no port mapping.
 */
export function parsePortMapping(text: string): PortSpec | undefined {
  const match = /^(?:(?:\[([0-9a-f:.]+)\]|([0-9]+\.[0-9.]+)):)?(?:([0-9]{1,5}):)?([0-9]{1,5})$/i.exec(text);
  if (match === null) return undefined;
  const [, ipv6, ipv4, host = "0", service = ""] = match;
  const hostAddress = ipv6 ?? ipv4 ?? DEFAULT_ADDRESS;
  const hostPort = Number(host);
  const servicePort = Number(service);
  const inRange = hostPort <= 65_535 && servicePort >= 1 && servicePort <= 65_535;
  return isIP(hostAddress) !== 0 && inRange ? { hostAddress, hostPort, servicePort } : undefined;
}

export function formatPortMapping(port: PortSpec): string {
  const address = port.hostAddress.includes(":") ? `[${port.hostAddress}]` : port.hostAddress;
  return `${address}:${port.hostPort}:${port.servicePort}`;
}
