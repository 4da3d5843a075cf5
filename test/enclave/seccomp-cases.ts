/**
 * What the filter must answer to each system call it is about, written down without looking at the rules. The
 * interpreter and real processes go through the same list.
 *
 * Most arguments are -1 throughout: where the kernel is asked, it finds no file, no process and no memory behind that.
 */
import { type Architecture, SYSCALL_NUMBERS } from "../../enclave/seccomp/syscall-numbers.ts";

export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

export interface Case {
  readonly title: string;
  readonly call: string;
  readonly arguments: readonly bigint[];
  readonly answer: "allow" | "EPERM" | "ENOSYS" | "EAFNOSUPPORT";
  /** Each of these capabilities alone makes it allowed. */
  readonly unless: readonly string[];
  /** Some kernels, those without the feature for example, give the same answer without a filter. */
  readonly optional: boolean;
}

export const ANSWER_ERRNO = { EPERM: 1, ENOSYS: 38, EAFNOSUPPORT: 97 } as const;

/** Calls that no rule names. */
const ORDINARY_NUMBERS: Readonly<Record<string, { readonly x64: number; readonly arm64: number }>> = {
  read: { x64: 0, arm64: 63 },
  getpid: { x64: 39, arm64: 172 },
  seccomp: { x64: 317, arm64: 277 },
  capset: { x64: 126, arm64: 91 },
  pidfd_open: { x64: 434, arm64: 434 },
  openat2: { x64: 437, arm64: 437 },
  landlock_create_ruleset: { x64: 444, arm64: 444 },
  landlock_add_rule: { x64: 445, arm64: 445 },
  landlock_restrict_self: { x64: 446, arm64: 446 },
  memfd_secret: { x64: 447, arm64: 447 },
  statmount: { x64: 457, arm64: 457 },
  /** Behind the newest call that the filter knows. */
  newer: { x64: 471, arm64: 471 },
  /** On x86-64, execve of the x32 interface without its bit: 4.14 runs it. */
  x32_execve: { x64: 520, arm64: 520 },
  x32_ptrace: { x64: 521, arm64: 521 },
};

/** @returns undefined where the architecture has no such call. */
export function caseNumber(call: string, architecture: Architecture): number | undefined {
  const known: Readonly<Record<string, { readonly x64: number; readonly arm64?: number }>> = SYSCALL_NUMBERS;
  return (ORDINARY_NUMBERS[call] ?? known[call])?.[architecture];
}

const MINUS_ONE = 0xffff_ffff_ffff_ffffn;
const ANYTHING = Array.from({ length: 6 }, () => MINUS_ONE);
const HIGH = 1n << 32n;

type Options = Partial<Pick<Case, "unless" | "optional" | "title">>;

function makeCase(
  call: string,
  values: readonly (number | bigint)[],
  answer: Case["answer"],
  options: Options = {},
): Case {
  const parameters = values.map(BigInt);
  const hex = parameters.map((value) => (value < 0n ? String(value) : `0x${value.toString(16)}`)).join(", ");
  return {
    title: `${call}(${hex})`,
    call,
    arguments: parameters,
    answer,
    unless: [],
    optional: false,
    ...options,
  };
}

const refused = (calls: string, unless: readonly string[] = [], answer: Case["answer"] = "EPERM"): Case[] =>
  calls.split(" ").map((call) => makeCase(call, ANYTHING, answer, { unless, title: call }));

const allowed = (calls: string): Case[] =>
  calls.split(" ").map((call) => makeCase(call, ANYTHING, "allow", { title: call }));

const ADMIN = ["CAP_SYS_ADMIN"];

const PLAIN_CASES: readonly Case[] = [
  ...refused("io_uring_setup io_uring_enter io_uring_register"),
  ...refused("add_key request_key keyctl modify_ldt lookup_dcookie nfsservctl uselib _sysctl"),
  ...refused("bpf", ["CAP_BPF", "CAP_SYS_ADMIN"]),
  ...refused("perf_event_open", ["CAP_PERFMON", "CAP_SYS_ADMIN"]),
  ...refused("userfaultfd", ["CAP_SYS_PTRACE"]),
  ...refused("ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd", [
    "CAP_SYS_PTRACE",
  ]),
  ...refused("mount umount2 pivot_root open_tree open_tree_attr move_mount", ADMIN),
  ...refused("fsopen fsconfig fsmount fspick mount_setattr", ADMIN),
  ...refused("unshare setns listns swapon swapoff quotactl quotactl_fd", ADMIN),
  ...refused("chroot", ["CAP_SYS_CHROOT"]),
  ...refused("kexec_load kexec_file_load reboot", ["CAP_SYS_BOOT"]),
  ...refused("init_module finit_module delete_module create_module query_module get_kernel_syms", [
    "CAP_SYS_MODULE",
  ]),
  ...refused("open_by_handle_at name_to_handle_at", ["CAP_DAC_READ_SEARCH"]),
  ...refused("acct", ["CAP_SYS_PACCT"]),
  ...refused("settimeofday clock_settime clock_adjtime adjtimex", ["CAP_SYS_TIME"]),
  ...refused("iopl ioperm", ["CAP_SYS_RAWIO"]),
  ...refused("syslog", ["CAP_SYSLOG", "CAP_SYS_ADMIN"]),
  ...refused("setgroups", ["CAP_SETGID"]),
  ...refused("clone3", ADMIN, "ENOSYS"),
  ...refused("newer x32_execve x32_ptrace", [], "ENOSYS").map((each) => ({ ...each, optional: true })),
  ...allowed("read getpid seccomp capset pidfd_open openat2 statmount memfd_secret"),
  ...allowed("landlock_create_ruleset landlock_add_rule landlock_restrict_self"),
];

const [STREAM, DGRAM, RAW, PACKET_TYPE] = [1, 2, 3, 10];
const [UNIX, INET, INET6, NETLINK, PACKET, ALG, VSOCK, XDP] = [1, 2, 10, 16, 17, 38, 40, 44];
const NO_FAMILY = { optional: true } as const;
const FLAGS = 0x80800; // SOCK_CLOEXEC | SOCK_NONBLOCK

const SOCKET_CASES: readonly Case[] = [
  ...[UNIX, INET, INET6].map((domain) => makeCase("socket", [domain, STREAM, 0], "allow")),
  makeCase("socket", [INET, DGRAM | FLAGS, 0], "allow"),
  makeCase("socket", [UNIX, RAW, 0], "allow", { title: "a raw Unix socket, which is a datagram socket" }),
  makeCase("socketpair", [UNIX, STREAM, 0, -1], "allow"),
  ...[0, ALG, VSOCK, XDP, 3, 4, 9, 29, 30, 31, 39, 41, 43, 45, 46, 255, -1].flatMap((domain) => [
    makeCase("socket", [domain, STREAM, 0], "EAFNOSUPPORT", NO_FAMILY),
    makeCase("socketpair", [domain, STREAM, 0, -1], "EAFNOSUPPORT", NO_FAMILY),
  ]),
  makeCase("socket", [NETLINK, RAW, 0], "EAFNOSUPPORT", { unless: ["CAP_NET_ADMIN"] }),
  makeCase("socket", [PACKET, DGRAM, 0], "EAFNOSUPPORT", { unless: ["CAP_NET_RAW"] }),
  makeCase("socket", [PACKET, RAW, 0], "EAFNOSUPPORT", { unless: ["CAP_NET_RAW"] }),
  makeCase("socket", [INET, RAW, 1], "EPERM", { unless: ["CAP_NET_RAW"] }),
  makeCase("socket", [INET, RAW | FLAGS, 1], "EPERM", { unless: ["CAP_NET_RAW"] }),
  makeCase("socket", [INET6, RAW, 58], "EPERM", { unless: ["CAP_NET_RAW"] }),
  makeCase("socket", [INET, PACKET_TYPE, 0x300], "EPERM", {
    unless: ["CAP_NET_RAW"],
    title: "AF_INET with SOCK_PACKET, which is AF_PACKET",
  }),
  makeCase("socket", [HIGH | BigInt(VSOCK), STREAM, 0], "EAFNOSUPPORT", NO_FAMILY),
  makeCase("socket", [HIGH | BigInt(NETLINK), RAW, 0], "EAFNOSUPPORT", { unless: ["CAP_NET_ADMIN"] }),
  makeCase("socket", [(BigInt(VSOCK) << 32n) | BigInt(UNIX), STREAM, 0], "allow"),
  makeCase("socket", [HIGH | BigInt(INET), HIGH | BigInt(RAW), 1], "EPERM", { unless: ["CAP_NET_RAW"] }),
];

const THREAD = 0x10000; // Without CLONE_SIGHAND the kernel answers EINVAL, so that nothing is started here.
const NAMESPACES = [0x20000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
const [REGULAR, FIFO, SOCKET, CHARACTER, BLOCK, FOLDER] = [0x8000, 0x1000, 0xc000, 0x2000, 0x6000, 0x4000];
const DEVICE = { unless: ["CAP_MKNOD"] } as const;
const [TIOCSTI, TIOCLINUX, TCGETS] = [0x5412, 0x541c, 0x5401];

const ARGUMENT_CASES: readonly Case[] = [
  ...NAMESPACES.map((flag) => makeCase("clone", [THREAD | flag], "EPERM", { unless: ADMIN })),
  makeCase("clone", [HIGH | BigInt(THREAD | 0x1000_0000)], "EPERM", { unless: ADMIN }),
  makeCase("clone", [THREAD | 0x8000], "EPERM", { unless: ADMIN, title: "clone with CLONE_PARENT" }),
  makeCase("clone", [THREAD], "allow"),
  makeCase("clone", [THREAD | 0x3d_0600], "allow", { title: "clone with the flags of a thread" }),
  makeCase("ioctl", [-1, TIOCSTI], "EPERM"),
  makeCase("ioctl", [-1, TIOCLINUX], "EPERM"),
  makeCase("ioctl", [-1, HIGH | BigInt(TIOCSTI)], "EPERM"),
  makeCase("ioctl", [-1, BigInt(TIOCSTI) << 32n], "allow"),
  makeCase("ioctl", [-1, TCGETS], "allow"),
  makeCase("personality", [0], "allow"),
  makeCase("personality", [0xffff_ffff], "allow"),
  ...[8, 0x40000, 0x40_0000, 0x20000, HIGH | 8n].map((persona) =>
    makeCase("personality", [persona], "EPERM"),
  ),
  ...[0, REGULAR, FIFO, SOCKET].flatMap((type) => [
    makeCase("mknod", [-1, type | 0o644, 0], "allow"),
    makeCase("mknodat", [-1, -1, type | 0o644, 0], "allow"),
  ]),
  ...[CHARACTER, BLOCK, FOLDER, CHARACTER | 0x1_0000].flatMap((type) => [
    makeCase("mknod", [-1, type | 0o644, 0x501], "EPERM", { ...DEVICE, optional: type === FOLDER }),
    makeCase("mknodat", [-1, -1, type | 0o644, 0x501], "EPERM", { ...DEVICE, optional: type === FOLDER }),
  ]),
];

const OTHER = 7;

function listIdentityCases({ uid, gid }: Identity): readonly Case[] {
  const cases = (id: "uid" | "gid", own: number, unless: readonly string[]): Case[] => [
    makeCase(`set${id}`, [own], "allow"),
    makeCase(`set${id}`, [OTHER], "EPERM", { unless }),
    makeCase(`set${id}`, [HIGH | BigInt(OTHER)], "EPERM", { unless }),
    makeCase(`setfs${id}`, [own], "allow"),
    makeCase(`setfs${id}`, [-1], "allow"),
    makeCase(`setfs${id}`, [OTHER], "EPERM", { unless }),
    makeCase(`setre${id}`, [own, -1], "allow"),
    makeCase(`setre${id}`, [OTHER, -1], "EPERM", { unless }),
    makeCase(`setre${id}`, [-1, OTHER], "EPERM", { unless }),
    makeCase(`setres${id}`, [-1, own, own], "allow"),
    makeCase(`setres${id}`, [OTHER, -1, -1], "EPERM", { unless }),
    makeCase(`setres${id}`, [-1, OTHER, -1], "EPERM", { unless }),
    makeCase(`setres${id}`, [own, own, OTHER], "EPERM", { unless }),
  ];
  return [...cases("uid", uid, ["CAP_SETUID"]), ...cases("gid", gid, ["CAP_SETGID"])];
}

/** The cases of a service that runs with `identity`, where the architecture has the call. */
export function listCases(architecture: Architecture, identity: Identity): readonly Case[] {
  const cases = [...PLAIN_CASES, ...SOCKET_CASES, ...ARGUMENT_CASES, ...listIdentityCases(identity)];
  return cases
    .filter(({ call }) => caseNumber(call, architecture) !== undefined)
    .map((each) => ({ ...each, arguments: each.arguments.map((value) => BigInt.asUintN(64, value)) }));
}
