import { createHash } from "node:crypto";

import { Decoder } from "cbor-x";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";

import { createNodeCrypto } from "../../attest/verify/node-crypto.ts";
import { DocumentVerifier } from "../../attest/verify/document-verifier.ts";
import { NSM_DEVICE_ID, NSM_GROUP, RA_SERVER_ID, RUNTIME } from "../../wire/runtime-layout.ts";
import { CALLER, ERRNO, GET_RANDOM, MODULE_ID, NsmBed, SERVICE_ID } from "../fixtures/guest/nsm-bed.ts";

/** The first build of a machine compiles a kernel. */
const FIRST_BOOT_MS = 2_400_000;
const LONG_MS = 240_000;

let bed: NsmBed;
beforeAll(async () => {
  bed = await NsmBed.open();
}, FIRST_BOOT_MS);
afterEach(() => {
  bed.host.behaviour = bed.answer;
});
afterAll(async () => {
  await bed[Symbol.asyncDispose]();
});

const cbor = new Decoder({ mapsAsObjects: false, useRecords: false });
const Names = z.map(z.unknown(), z.unknown());

/** "ok LENGTH HEX" to what the bytes mean, with maps as objects. */
function decode(line: string | undefined): unknown {
  const [ok, length, hex = ""] = (line ?? "").split(" ");
  const bytes = Buffer.from(hex, "hex");
  expect([ok, length]).toEqual(["ok", String(bytes.length)]);
  return toObject(cbor.decode(bytes));
}

function toObject(value: unknown): unknown {
  if (!(value instanceof Map)) return value;
  const entries = [...Names.parse(value)].map(([key, one]) => [String(key), toObject(one)] as const);
  return Object.fromEntries(entries);
}

const STAT = `const s = fs.statSync("/dev/nsm"); \`\${s.uid}:\${s.gid} \${s.mode.toString(8)}\``;

describe("an independent program on the raw ioctl", () => {
  let results: ReadonlyMap<string, string>;
  beforeAll(async () => {
    results = await bed.call("everything");
  }, LONG_MS);

  test("describes the module and its registers", () => {
    expect(decode(results.get("DescribeNSM"))).toMatchObject({
      DescribeNSM: { module_id: MODULE_ID, max_pcrs: 32, digest: "SHA384" },
    });
    expect(decode(results.get("DescribePCR"))).toEqual({
      DescribePCR: { lock: true, data: Buffer.alloc(48, 1) },
    });
    expect(decode(results.get("InvalidIndex"))).toEqual({ Error: "InvalidIndex" });
  });

  test("extends a register and locks it", () => {
    const data = createHash("sha384").update(Buffer.alloc(48)).update(Buffer.of(1)).digest();
    expect(decode(results.get("ExtendPCR"))).toEqual({ ExtendPCR: { data } });
    expect(decode(results.get("DescribePCR16"))).toEqual({ DescribePCR: { lock: false, data } });
    expect(decode(results.get("LockPCR"))).toBe("LockPCR");
    expect(decode(results.get("ExtendLocked"))).toEqual({ Error: "ReadOnlyIndex" });
    expect(decode(results.get("LockPCRs"))).toBe("LockPCRs");
  });

  test("gets 256 random bytes, others each time, cut to the room that there is", async () => {
    const random = z.object({ GetRandom: z.object({ random: z.instanceof(Uint8Array) }) });
    const first = random.parse(decode(results.get("GetRandom"))).GetRandom.random;
    expect(first).toHaveLength(256);
    expect(random.parse(decode(await bed.asked())).GetRandom.random).not.toEqual(first);
    expect(results.get("SmallRoom")).toMatch(/^ok 10 a16947657452616e646f$/);
    expect(results.get("NoRoom")).toBe("ok 0 ");
  });

  test("gets documents that verify, with what it asked for inside", async () => {
    const Attested = z.object({ Attestation: z.object({ document: z.instanceof(Uint8Array) }) });
    const verifier = new DocumentVerifier(createNodeCrypto());
    const verify = async (name: string) => {
      const { document } = Attested.parse(decode(results.get(name))).Attestation;
      return await verifier.authenticate(document, { roots: [bed.rootSha256], atMs: Date.now() });
    };
    expect(await verify("Attestation")).toMatchObject({
      moduleId: MODULE_ID,
      userData: new Uint8Array(Buffer.from("data")),
      nonce: new Uint8Array(Buffer.from("nonce")),
      publicKey: Uint8Array.of(1, 2, 3),
    });
    const empty = await verify("AttestationEmpty");
    expect(empty).toMatchObject({ userData: null, nonce: null, publicKey: null });
    expect(empty.pcrs.get(2)).toEqual(new Uint8Array(48).fill(3));
    expect(empty.pcrs.has(16)).toBe(true);
    expect(empty.pcrs.has(17)).toBe(false);
  });

  test("is refused a request that is too large, and told of one that is malformed", () => {
    expect(decode(results.get("Malformed"))).toEqual({ Error: "InvalidOperation" });
    expect(decode(results.get("Largest"))).toEqual({ Error: "InvalidOperation" });
    expect(results.get("TooLarge")).toBe(`errno ${ERRNO.EMSGSIZE}`);
    expect(results.get("FarTooLarge")).toBe(`errno ${ERRNO.EMSGSIZE}`);
  });

  test("is told by the driver's errno of what no module takes", async () => {
    const misused = await bed.call("misuse");
    const errno = (names: readonly string[], number: number) =>
      expect(names.map((name) => [name, misused.get(name)])).toEqual(
        names.map((name) => [name, `errno ${number}`]),
      );
    errno(["OtherNumber", "OtherSize", "Terminal", "Empty", "Read", "Write"], ERRNO.EINVAL);
    errno(["NoArgument", "BadArgument", "BadRequest", "FarRequest", "BadResponse"], ERRNO.EFAULT);
    expect(misused.get("Afterwards")).toMatch(/^ok /);
  });

  test("is one of a hundred that open it at once, each of which is answered", async () => {
    const before = bed.host.requests.length;
    expect((await bed.call("crowd", "100")).get("Crowd")).toBe("ok 100");
    expect(bed.host.requests.length - before).toBe(100);
  });

  test("is not interrupted by signals that it handles", async () => {
    const waiting = Promise.withResolvers<void>();
    bed.host.behaviour = async (request, socket) => {
      waiting.resolve();
      // Longer than several of its signals; the caller says whether any came.
      await new Promise((resolve) => setTimeout(resolve, 300));
      await bed.answer(request, socket);
    };
    const called = await bed.call("signals");
    await waiting.promise;
    expect(called.get("AmongSignals")).toMatch(/^ok /);
    expect(called.get("Signals")).toBe("ok 1");
  });
});

describe("who may open the device", () => {
  test("is its owner and its group, nobody else", async () => {
    expect(await bed.run(["/opt/enclave/bin/node", "-p", STAT], 0, 0)).toMatchObject({
      stdout: `${RA_SERVER_ID}:${NSM_GROUP} 20660\n`,
    });
    expect(await bed.run([CALLER, GET_RANDOM], RA_SERVER_ID, RA_SERVER_ID)).toMatchObject({ status: 0 });
    for (const [uid, gid] of [[SERVICE_ID, SERVICE_ID] as const, [NSM_DEVICE_ID, NSM_DEVICE_ID] as const])
      expect(await bed.run([CALLER, GET_RANDOM], uid, gid)).toMatchObject({
        status: 1,
        stdout: `open errno ${ERRNO.EACCES}\n`,
      });
  });

  test("is a confined service that was given the device and the group", async () => {
    const exec = async (uid: number, ...words: string[]): Promise<string> => {
      const identity = ["--uid", String(uid), "--gid", String(uid), "--cwd", "/", "--confine"];
      const command = [RUNTIME.serviceExec, ...identity, ...words, "--", CALLER, GET_RANDOM];
      return (await bed.run(command, 0, 0)).stdout.replace(/ok \d+ .*/, "ok");
    };
    const group = ["--groups", String(NSM_GROUP)];
    expect(await exec(SERVICE_ID, "--nsm", ...group)).toBe("open ok\nAsked ok\n");
    expect(await exec(SERVICE_ID, "--nsm")).toBe(`open errno ${ERRNO.EACCES}\n`);
    expect(await exec(SERVICE_ID, ...group)).toBe(`open errno ${ERRNO.ENOENT}\n`);
    expect(await exec(0, "--nsm")).toBe(`open errno ${ERRNO.EACCES}\n`);
    expect(await exec(0, "--cap", "1")).toBe(`open errno ${ERRNO.ENOENT}\n`);
  });

  test("the program behind it has no privilege left", async () => {
    const status = String(await bed.guest.ask({ do: "status-of-device" }));
    const id = Array.from({ length: 4 }, () => String(NSM_DEVICE_ID)).join("\t");
    expect(status).toContain(`Uid:\t${id}\nGid:\t${id}\n`);
    expect(status).toMatch(/^CapPrm:\t0+\nCapEff:\t0+\n/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Groups:\t *$/m);
  });
});

describe("the toolkit's own provider", () => {
  test("gets every answer through the ioctl, in order, and refuses what is too large by itself", async () => {
    const asked = bed.host.requests.length;
    const requests = [GET_RANDOM, "6b44657363726962654e534d", "00".repeat(0x1001), "ff"];
    const answered = await bed.guest.ask({ do: "provide", path: "/dev/nsm", requests });
    const { results, ...provider } = z
      .object({ name: z.string(), rootSha256: z.string().nullable(), results: z.array(z.string()) })
      .parse(answered);
    expect(provider.name).toBe("nitro");
    expect(results.map((result) => result.slice(0, 20))).toEqual([
      Buffer.from("\xa1\x69GetRandom", "latin1").toString("hex").slice(0, 20),
      Buffer.from("\xa1\x6bDescribeNSM", "latin1").toString("hex").slice(0, 20),
      "E_NSM_REQUEST_SIZE: ",
      Buffer.from("\xa1\x65Error", "latin1").toString("hex") + "70496e76".slice(0, 6),
    ]);
    expect(bed.host.requests.slice(asked).map((request) => request.toString("hex"))).toEqual(
      [0, 1, 3].map((index) => requests[index]),
    );
  });

  test("gives the driver's refusal a code", async () => {
    bed.host.behaviour = (_request, socket) => void socket.destroy();
    const answered = await bed.guest.ask({ do: "provide", path: "/dev/nsm", requests: [GET_RANDOM] });
    expect(answered).toMatchObject({ results: ["E_NSM_TRANSPORT: /dev/nsm: EIO"] });
  });

  test("says where there is no device", async () => {
    await bed.endDevice("SIGTERM");
    expect(await bed.guest.ask({ do: "provide", path: "/dev/nsm", requests: [] })).toEqual({
      error: "E_NSM_NO_DEVICE: this machine has no Nitro Security Module: /dev/nsm (ENXIO)",
    });
    await bed.startDevice();
  });
});
