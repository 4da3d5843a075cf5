import type { AddressInfo, Server } from "node:net";

export function portOf(server: Pick<Server, "address">): number {
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === "string") throw new Error("listens on no port");
  return address.port;
}
