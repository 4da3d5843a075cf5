/** Calls that are needed, but not with every argument. */
import type { Capability, Condition, Rule } from "./rule.ts";
import type { SyscallName } from "./syscall-numbers.ts";

const DOMAIN = { unix: 1, inet: 2, inet6: 10, netlink: 16, packet: 17 } as const;
const SOCKET_TYPE_MASK = 0xf;
const SOCK_RAW = 3;
const NETLINK_ROUTE = 0;
/** On an internet domain the kernel takes it for AF_PACKET. */
const SOCK_PACKET = 10;

/**
 * AF_VSOCK (40) leads to the host, knows no namespaces, and no capability brings it back. Some forty more (AF_ALG,
 * AF_XDP, AF_TIPC) are missed by hardly anyone and load modules when asked for. Without AF_NETLINK C libraries look up
 * names as ever, but cannot list interfaces: Node's os.networkInterfaces() throws. Whoever needs that asks for
 * NETLINK_ROUTE alone, which without capabilities only tells.
 */
export function listSocketRules(capabilities: ReadonlySet<string>, netlink: boolean): readonly Rule[] {
  const domains: number[] = [DOMAIN.unix, DOMAIN.inet, DOMAIN.inet6];
  if (netlink || capabilities.has("CAP_NET_ADMIN")) domains.push(DOMAIN.netlink);
  if (capabilities.has("CAP_NET_RAW")) domains.push(DOMAIN.packet);
  const rawTypes = [SOCK_RAW, SOCK_PACKET];
  return [
    {
      calls: ["socket", "socketpair"],
      conditions: [{ argument: 0, is: "noneOf", values: domains }],
      answer: "EAFNOSUPPORT",
      unless: [],
      why: "Unix sockets and the internet protocols are what services speak",
    },
    {
      calls: ["socket", "socketpair"],
      conditions: [
        { argument: 0, is: "oneOf", values: [DOMAIN.netlink] },
        { argument: 2, is: "noneOf", values: [NETLINK_ROUTE] },
      ],
      answer: "EPERM",
      unless: ["CAP_NET_ADMIN"],
      why: "the other families of netlink configure the kernel",
    },
    {
      calls: ["socket", "socketpair"],
      conditions: [
        { argument: 0, is: "oneOf", values: [DOMAIN.inet, DOMAIN.inet6] },
        { argument: 1, mask: SOCKET_TYPE_MASK, is: "oneOf", values: rawTypes },
      ],
      answer: "EPERM",
      unless: ["CAP_NET_RAW"],
      why: "forged packets and eavesdropping on the loopback that all services share",
    },
  ];
}

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. NEWTIME is in the byte of the exit signal here. */
const CLONE_NEW = 0x7e02_0000;
const CLONE_PARENT = 0x8000;
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;
const PERSONALITY_LINUX = 0;
const PERSONALITY_QUERY = 0xffff_ffff;
const S_IFMT = 0xf000;
/** None (a regular file), fifo, regular, socket. */
const PLAIN_FILE_TYPES = [0, 0x1000, 0x8000, 0xc000];

export const ARGUMENT_RULES: readonly Rule[] = [
  {
    calls: ["clone"],
    conditions: [{ argument: 0, mask: CLONE_NEW, is: "noneOf", values: [0] }],
    answer: "EPERM",
    unless: ["CAP_SYS_ADMIN"],
    why: "as unshare: a new user namespace gives every capability",
  },
  {
    calls: ["clone"],
    conditions: [{ argument: 0, mask: CLONE_PARENT, is: "noneOf", values: [0] }],
    answer: "EPERM",
    unless: ["CAP_SYS_ADMIN"],
    why: "the new process would be a child of the supervisor, which does not know it and never reaps it",
  },
  {
    calls: ["ioctl"],
    conditions: [{ argument: 1, is: "oneOf", values: [TIOCSTI, TIOCLINUX] }],
    answer: "EPERM",
    unless: [],
    why: "types into a terminal as if its user had",
  },
  {
    // ADDR_NO_RANDOMIZE and READ_IMPLIES_EXEC survive exec and undo what protects the next program.
    calls: ["personality"],
    conditions: [{ argument: 0, is: "noneOf", values: [PERSONALITY_LINUX, PERSONALITY_QUERY] }],
    answer: "EPERM",
    unless: [],
    why: "other personalities are old binary formats or weaken the layout of memory",
  },
  deviceRule("mknod", 1),
  deviceRule("mknodat", 2),
];

function deviceRule(call: SyscallName, argument: number): Rule {
  return {
    calls: [call],
    conditions: [{ argument, mask: S_IFMT, is: "noneOf", values: PLAIN_FILE_TYPES }],
    answer: "EPERM",
    unless: ["CAP_MKNOD"],
    why: "a device node is the device, /dev/nsm included",
  };
}

/** As uid or gid: "leave it as it is". */
const UNCHANGED = 0xffff_ffff;

/** Calls that set one kind of id, by how many ids they take. */
const UID_CALLS: readonly (readonly [SyscallName, number])[] = [
  ["setuid", 1],
  ["setfsuid", 1],
  ["setreuid", 2],
  ["setresuid", 3],
];
const GID_CALLS: readonly (readonly [SyscallName, number])[] = [
  ["setgid", 1],
  ["setfsgid", 1],
  ["setregid", 2],
  ["setresgid", 3],
];

export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The kernel refuses other ids already, as there is no capability; this holds also where one was left by mistake. One's
 * own id may be set again, if it is known here: programs drop privileges that they never had and end if they cannot
 * (older busybox does so in every applet). Groups need the capability even for what they are already.
 */
export function listIdentityRules(identity: Identity | undefined): readonly Rule[] {
  const uids = identity === undefined ? [UNCHANGED] : [identity.uid, UNCHANGED];
  const gids = identity === undefined ? [UNCHANGED] : [identity.gid, UNCHANGED];
  return [
    ...UID_CALLS.flatMap(([call, count]) => idRules(call, count, { values: uids, unless: ["CAP_SETUID"] })),
    ...GID_CALLS.flatMap(([call, count]) => idRules(call, count, { values: gids, unless: ["CAP_SETGID"] })),
    {
      calls: ["setgroups"],
      answer: "EPERM",
      unless: ["CAP_SETGID"],
      why: "groups of others open their files",
    },
  ];
}

interface IdLimits {
  readonly values: readonly number[];
  readonly unless: readonly Capability[];
}

/** One rule for each id that the call takes: any foreign one is refused. */
function idRules(call: SyscallName, count: number, { values, unless }: IdLimits): Rule[] {
  return Array.from({ length: count }, (_, argument) => ({
    calls: [call],
    conditions: [{ argument, is: "noneOf", values } satisfies Condition],
    answer: "EPERM",
    unless,
    why: "another identity is another service",
  }));
}
