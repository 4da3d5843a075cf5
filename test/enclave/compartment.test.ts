import { expect, test } from "vitest";

import { makeCompartment } from "../../enclave/compartment.ts";
import { describeExit } from "../../enclave/process-end.ts";
import { compareServices } from "../../enclave/service-comparison.ts";
import { describeSharing } from "../../wire/isolation.ts";
import { shellService } from "./service-configs.ts";

const user = (uid: number) => ({ user: { name: `u${uid}`, uid, gid: uid, groups: [], home: "/" } });

test("limits, capabilities and filter become options of service-exec", () => {
  const config = shellService("a", "true", {
    limits: { pids: 9, ulimits: { nofile: { soft: 10, hard: null }, core: { soft: 1, hard: 2 } } },
    capabilities: ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
  });
  const cgroup = {
    directories: ["/cg/memory/a", "/cg/pids/a"],
    readCounters: () => Promise.reject(new Error("not asked for")),
    killAll: () => Promise.resolve(),
  };
  const text = makeCompartment(config, { cgroup, filter: "/f.bpf", countsPids: false }).options.join(" ");
  expect(text).toBe(
    "--cgroup /cg/memory/a --cgroup /cg/pids/a --rlimit core=1:2 --rlimit nproc=9:9 --rlimit nofile=10:unlimited " +
      "--cap 0 --cap 10 --oom-score 500 --confine --seccomp /f.bpf",
  );
});

test("only a service with nsm: true finds /dev/nsm", () => {
  const parts = { cgroup: undefined, filter: "/f", countsPids: true };
  const optionsOf = (overrides: Parameters<typeof shellService>[2]) =>
    makeCompartment(shellService("a", "true", overrides), parts).options;
  expect(optionsOf({ nsm: true })).toContain("--nsm");
  expect(optionsOf({})).not.toContain("--nsm");
});

test("no core files are written unless they are asked for, and forks are not limited twice", () => {
  const { options } = makeCompartment(shellService("a", "true", { limits: { pids: 9 } }), {
    cgroup: undefined,
    filter: "/f",
    countsPids: true,
  });
  expect(options.join(" ")).toContain("--rlimit core=0:0");
  expect(options.join(" ")).not.toContain("nproc");
});

test("only a service with a user of its own that is not root is kept apart", () => {
  const services = [1, 2, 2, 0].map((uid, index) => shellService(`s${index}`, "true", user(uid)));
  const told = services.map((service) => describeSharing(service, services));
  expect(told[0]).toBeNull();
  expect(told[1]).toBe("shares its user u2 with service s2");
  expect(told[2]).toBe("shares its user u2 with service s1");
  expect(told[3]).toMatch(/root/);
});

test("a reload tells what is new, gone, changed and the same", () => {
  const before = [shellService("a", "1"), shellService("b", "1"), shellService("c", "1")];
  const after = [shellService("d", "1"), shellService("b", "2"), shellService("a", "1")];
  expect(compareServices(before, after)).toEqual({
    added: ["d"],
    removed: ["c"],
    changed: ["b"],
    unchanged: ["a"],
  });
});

test("a death by SIGSYS is a system call that the filter refused", () => {
  expect(describeExit(null, "SIGSYS")).toEqual({ reason: "syscall_denied", clean: false });
});
