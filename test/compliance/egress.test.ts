/** Who may leave an enclave: rules, resolver, proxies, denials, restarts, and ports that come and go. */
import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";
import { writeFile } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import { type NetworkReport } from "../../wire/network-report.ts";
import { NetworkReportSchema } from "../../wire/network-schemas.ts";
import { waitFor } from "../e2e/testbed.ts";
import { BACKENDS } from "./backends.ts";
import { type ComplianceEnclave, OPEN_TIMEOUT_MS, prepareEnclave, TEST_TIMEOUT_MS, WAIT_MS } from "./compliance-bed.ts"; // prettier-ignore

const Talk = z.object({ answer: z.string(), error: z.string().nullable(), address: z.string().nullable() });
const Lookup = z.object({ addresses: z.array(z.string()), error: z.string().nullable() });
const Sent = z.object({ error: z.string().nullable() });
const Network = z.object({ name: z.string(), host: NetworkReportSchema, enclave: NetworkReportSchema });

/** Says who is asked and what it was sent, and half-closes after its client. */
function openServer(): Promise<{
  readonly server: Server;
  readonly port: number;
  readonly open: Set<Socket>;
}> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
    socket.on("error", () => undefined).pipe(socket);
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1", resolve);
  return promise.then(() => {
    const address = server.address();
    return { server, open, port: typeof address === "object" && address !== null ? address.port : 0 };
  });
}

describe.each(BACKENDS)("egress on %s", { timeout: TEST_TIMEOUT_MS }, (backend) => {
  let enclave: ComplianceEnclave;
  let outside: Awaited<ReturnType<typeof openServer>>;

  const yamlOf = (rules: readonly string[]): string => `
name: egress
mode: development
image: { base: { debian: [] }, copy: [{ from: ./app, to: /app }] }
services:
  probe:
    command: [node, /app/probe.js]
    healthcheck: { tcp: 8080, interval: 2s, timeout: 20s, start_period: 60s }
  early: { command: [node, /app/early.js] }
ports: ["127.0.0.1:0:8080"]
egress: [${rules.join(", ")}]
egress_proxies: { http: 3128, socks: 1080 }
local: { single_user: true }
`;
  const to = (rule: string): string => `{ ${rule}, connect_to: "127.0.0.1:${outside.port}" }`;
  const RULES = (): string[] => [
    to("host: db.test, port: 5432"),
    to('host: "*.wild.test", port: 5432'),
    to("host: api.test, port: 443"),
    to("cidr: 192.0.2.0/24, port: 5432"),
    to("host: limited.test, port: 5432, connections: 1"),
    "{ host: nowhere.invalid, port: 5432 }",
    "{ action: deny, host: secret.wild.test }",
  ];

  const ask = async (wish: object): Promise<unknown> => {
    const address = `http://127.0.0.1:${enclave.hostPort(8080)}/`;
    const request = { method: "POST", body: JSON.stringify(wish), signal: AbortSignal.timeout(WAIT_MS) };
    return await (await fetch(address, request)).json();
  };
  const talk = async (host: string, port: number, send = "x", hold = false) =>
    Talk.parse(await ask({ host, port, send, hold }));
  const network = async (): Promise<{ readonly host: NetworkReport; readonly enclave: NetworkReport }> =>
    Network.parse(JSON.parse(await enclave.bed.succeed("net", "egress", "--json")));
  const denialOf = async (target: string) =>
    (await network()).enclave.denials.find((one) => one.target === target);

  beforeAll(async () => {
    outside = await openServer();
    enclave = await prepareEnclave(backend, "egress");
    await writeFile(enclave.file, yamlOf(RULES()));
    await enclave.up();
  }, OPEN_TIMEOUT_MS);
  afterAll(async () => {
    await enclave[Symbol.asyncDispose]();
    for (const socket of outside.open) socket.destroy();
    outside.server.close();
  });

  describe("names", () => {
    test("that a rule allows have an address of their own, and lead to their destination", async () => {
      const { addresses } = Lookup.parse(await ask({ lookup: "db.test" }));
      expect(addresses.some((address) => address.startsWith("198.18."))).toBe(true);
      expect(await talk("db.test", 5432, "hello")).toMatchObject({ answer: "hello", error: null });
      expect(await talk("DB.Test.", 5432, "hello")).toMatchObject({ answer: "hello", error: null });
    });

    test("below a wildcard are told apart, and the name itself and a denied one are none", async () => {
      const seen = new Set<string | null>();
      for (const name of ["a.wild.test", "b.wild.test", "deep.a.wild.test"]) {
        const { answer, address } = await talk(name, 5432, name);
        expect(answer).toBe(name);
        seen.add(address);
      }
      expect(seen.size).toBe(3);
      for (const name of ["wild.test", "secret.wild.test"])
        expect(Lookup.parse(await ask({ lookup: name })).error).toBe("ENOTFOUND");
    });

    test("that no rule allows do not exist, and the denial tells the rule that would allow them", async () => {
      expect(await talk("example.org", 443)).toMatchObject({ error: "ENOTFOUND" });
      expect(await denialOf("example.org")).toMatchObject({
        reason: "no_rule",
        allow: "{ host: example.org, port: 443 }",
      });
    });

    test("are answered whichever server a program asks, over UDP and TCP", async () => {
      const script = `
        const { Resolver } = require("node:dns");
        const resolver = new Resolver({ timeout: 5000, tries: 2 });
        resolver.setServers(["9.9.9.9"]);
        resolver.resolve4("db.test", (error, addresses) => console.log(error?.code ?? addresses[0].startsWith("198.18.")));`;
      expect(await enclave.bed.succeed("exec", "egress", "-s", "probe", "--", "node", "-e", script)).toBe(
        "true\n",
      );
    });
  });

  describe("connections", () => {
    test("to another port of an allowed name are reset", async () => {
      expect(await talk("db.test", 5433)).toMatchObject({ answer: "", error: "ECONNRESET" });
      expect(await denialOf("db.test:5433")).toMatchObject({ allow: "{ host: db.test, port: 5433 }" });
    });

    test("to an address go by the rules of addresses", async () => {
      expect(await talk("192.0.2.7", 5432, "hello")).toMatchObject({ answer: "hello", error: null });
      expect(await talk("192.0.3.7", 5432)).toMatchObject({ error: "ECONNRESET" });
      expect(await talk("2001:db8::1", 5432)).toMatchObject({ error: "ECONNRESET" });
      expect(await denialOf("192.0.3.7:5432")).toMatchObject({ allow: "{ cidr: 192.0.3.7, port: 5432 }" });
    });

    test("do not end at a service of the enclave that has the same port", async () => {
      expect((await talk("db.test", 5432, "who")).answer).toBe("who");
      expect((await talk("127.0.0.1", 5432)).answer).toBe("the enclave's own");
    });

    test("on port 443 begin with TLS, or reach nobody", async () => {
      const before = outside.open.size;
      expect(await talk("api.test", 443, "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")).toMatchObject({
        error: "ECONNRESET",
      });
      expect(outside.open.size).toBe(before);
      expect((await denialOf("api.test:443"))?.reason).toMatch(/^inspection/);
    });

    test("beyond a limit are reset", async () => {
      const first = ask({ host: "limited.test", port: 5432, send: "" });
      await first;
      const held = Array.from({ length: 8 }, () => talk("limited.test", 5432, "x"));
      const results = await Promise.all(held);
      expect(results.some(({ answer }) => answer === "x")).toBe(true);
    });

    test("that the host cannot make are reset, with the reason", async () => {
      expect(await talk("nowhere.invalid", 5432)).toMatchObject({ error: "ECONNRESET" });
      expect(await denialOf("nowhere.invalid:5432")).toMatchObject({ reason: "host: notResolved" });
    });

    test("by UDP are refused at once", async () => {
      expect(Sent.parse(await ask({ udp: "192.0.2.7", port: 443 })).error).toMatch(/^(EPERM|ECONNREFUSED)$/);
    });
  });

  test("a service that connects as soon as it runs finds the way out open", async () => {
    const early = await enclave.untilService("early", ({ state }) => state === "exited");
    expect(early.reason).toBe("exited(0)");
    expect(await enclave.initctl("logs", "early")).toContain("early: hello");
  });

  test("no service can put itself in the gateway's place", async () => {
    for (const wish of [{ listen: 2 }, { listen: 3 }, { listenUdp: 3 }])
      expect(await ask(wish)).toEqual({ error: "EACCES" });
  });

  describe("proxies on loopback", () => {
    test("CONNECT carries what is allowed and refuses the rest with the reason", async () => {
      const { answer } = await talk(
        "127.0.0.1",
        3128,
        "CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\nhello",
      );
      expect(answer).toMatch(/^HTTP\/1\.1 200 [^]*\r\n\r\nhello$/);
      const denied = await talk(
        "127.0.0.1",
        3128,
        "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
        true,
      );
      expect(denied.answer).toMatch(/^HTTP\/1\.1 403 [^]*x-enclave-denied: no_rule/i);
    });

    test("SOCKS5 as well", async () => {
      const request = "\x05\x01\x00\x05\x01\x00\x03\x07db.test\x15\x38";
      expect((await talk("127.0.0.1", 1080, `${request}hello`)).answer).toMatch(/hello$/);
    });
  });

  test("net shows listeners, rules and figures of both sides, as a table and as JSON", async () => {
    await talk("db.test", 5432, "12345");
    const { host, enclave: inside } = await network();
    expect(inside.redirection).toBe("kernel");
    expect(inside.listeners.map(({ purpose }) => purpose)).toEqual(
      expect.arrayContaining(["egress", "resolver", "http proxy", "socks proxy"]),
    );
    expect(host.listeners).toMatchObject([
      { purpose: "ingress", servicePort: 8080, port: enclave.hostPort(8080) },
    ]);
    for (const side of [host, inside]) {
      expect(side.rules[0]).toMatchObject({ rule: expect.stringContaining("host: db.test") });
      expect(side.rules[0]?.bytesOut).toBeGreaterThanOrEqual(5);
    }
    const table = await enclave.bed.succeed("net", "egress");
    for (const word of ["LISTENERS", "RULES", "CONNECTIONS", "DENIED", "db.test"])
      expect(table).toContain(word);
    const stats: unknown = JSON.parse(await enclave.bed.succeed("stats", "egress", "--no-stream", "--json"));
    expect(stats).toMatchObject({ network: { egress: { total: expect.any(Number) as number } } });
  });

  test("a denial is one line of the gateway's log, however often it is tried", async () => {
    for (let count = 0; count < 20; count += 1) await talk("noisy.example", 1);
    expect(await denialOf("noisy.example")).toMatchObject({ count: expect.any(Number) as number });
    const logs = await enclave.initctl("logs", "gateway");
    const lines = logs.split("\n").filter((line) => line.includes("noisy.example"));
    expect(lines.length).toBeGreaterThanOrEqual(1);
    expect(lines.length).toBeLessThan(4);
  });

  test("when the gateway is killed open connections end, new ones wait for the next, and names keep their addresses", async () => {
    const before = (await talk("b.wild.test", 5432)).address;
    for (let round = 0; round < 3; round += 1) {
      const held = ask({ host: "db.test", port: 5432, send: "", hold: true }).catch(() => undefined);
      await waitFor("an open connection", async () => outside.open.size > 0 || undefined, WAIT_MS);
      const pid = (await enclave.inside()).gateway.pid ?? 0;
      // Its own answer may go with the gateway.
      await enclave.run("exec", "egress", "--", "sh", "-c", `kill -9 ${pid}`);
      const results = await Promise.all(
        Array.from({ length: 10 }, async () => {
          // The kernel keeps what comes meanwhile; what was being accepted is lost with the gateway.
          const result = await waitFor(
            "a connection through the next gateway",
            async () => {
              const one = await talk("db.test", 5432, "again").catch(() => undefined);
              return one?.answer === "again" ? one : undefined;
            },
            WAIT_MS,
          );
          return result.answer;
        }),
      );
      expect(new Set(results)).toEqual(new Set(["again"]));
      await held;
      expect((await enclave.inside()).gateway.restarts).toBeGreaterThan(round);
    }
    expect((await talk("b.wild.test", 5432)).address).toBe(before);
    await waitFor("nothing left open outside", async () => outside.open.size === 0 || undefined, WAIT_MS);
  });

  test("ports are opened and closed while it runs", async () => {
    const added: unknown = JSON.parse(
      await enclave.bed.succeed("ports", "egress", "add", "127.0.0.1:0:8080", "--json"),
    );
    const [{ hostPort }] = z.tuple([z.object({ hostPort: z.number() })]).parse(added);
    const request = { method: "POST", body: JSON.stringify({ lookup: "localhost" }) };
    const answer = await (await fetch(`http://127.0.0.1:${hostPort}/`, request)).json();
    expect(Lookup.parse(answer).addresses).toContain("127.0.0.1");
    expect(await enclave.bed.succeed("ports", "egress", "list")).toContain(`127.0.0.1:${hostPort}`);
    await enclave.bed.succeed("ports", "egress", "remove", `127.0.0.1:${hostPort}:8080`);
    const closed = connect(hostPort, "127.0.0.1");
    expect(await once(closed, "error")).toMatchObject([{ code: "ECONNREFUSED" }]);
    expect(await enclave.run("ports", "egress", "add", "127.0.0.1:0:5432")).toMatchObject({
      status: 6,
      stderr: expect.stringContaining("E_PORT_NOT_PUBLISHED") as string,
    });
  });

  test("a reload takes other rules on both sides, and back", async () => {
    await writeFile(enclave.file, yamlOf([to("host: new.test, port: 5432")]));
    await enclave.initctl("reload");
    expect(await talk("new.test", 5432, "hello")).toMatchObject({ answer: "hello", error: null });
    expect(await talk("db.test", 5432)).toMatchObject({ error: "ENOTFOUND" });
    expect((await network()).host.rules).toHaveLength(1);
    await enclave.initctl("reload", "--image");
    expect(await talk("db.test", 5432, "hello")).toMatchObject({ answer: "hello", error: null });
    expect(await talk("new.test", 5432)).toMatchObject({ error: "ENOTFOUND" });
  });
});
