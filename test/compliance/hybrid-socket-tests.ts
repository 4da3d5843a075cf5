/** The socket on the host by which its tools reach vsock ports of the enclave (wire/hybrid-vsock.ts). */
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";

import { encodeConnect } from "../../wire/hybrid-vsock.ts";
import { VSOCK_PORT } from "../../wire/ports.ts";
import { enclavePaths } from "../../host/state/enclave-paths.ts";
import type { ComplianceEnclave } from "./compliance-bed.ts";

const PORT_OF_NOBODY = 4_000_000_000;

export function testHybridSocket(enclave: () => ComplianceEnclave): void {
  const vsock = (): string => `${enclavePaths(enclave().bed.stateDir, enclave().name).vsock}/vsock.sock`;
  const dial = async (): Promise<Socket> => {
    const socket = connect({ path: vsock(), allowHalfOpen: true });
    await once(socket, "connect");
    return socket;
  };

  test("a port that listens answers OK, and then the connection is that port's", async () => {
    const socket = await dial();
    socket.write(encodeConnect(VSOCK_PORT.control));
    const [line] = (await once(socket, "data")) as [Buffer];
    expect(String(line)).toMatch(/^OK \d+\n$/);
    socket.write("GET /v1/status HTTP/1.1\r\nHost: enclave\r\nConnection: close\r\n\r\n");
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 [^]*"traffic"/);
    socket.destroy();
  });

  test("a port on which nobody listens is told by the end, without a byte", async () => {
    const socket = await dial();
    socket.write(encodeConnect(PORT_OF_NOBODY));
    expect(await text(socket)).toBe("");
    socket.destroy();
  });

  test.each(["CONNECT many\n", "GET / HTTP/1.1\r\n\r\n", "x".repeat(100_000)])(
    "a handshake that is none ends: %.20s",
    async (garbage) => {
      const socket = await dial();
      socket.on("error", () => socket.destroy());
      socket.write(garbage);
      const answer = await text(socket).catch(() => "");
      expect(answer).toBe("");
    },
  );

  test("nobody but its owner may open it", async () => {
    expect((await stat(vsock())).mode & 0o777).toBe(0o600);
  });
}
