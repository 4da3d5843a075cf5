/** Calls that are refused whatever their arguments. */
import type { Rule } from "./rule.ts";

export const REFUSED_CALLS: readonly Rule[] = [
  {
    calls: ["io_uring_setup", "io_uring_enter", "io_uring_register"],
    answer: "EPERM",
    unless: [],
    why: "opens sockets of any family, and whatever else, without a system call that a filter could see",
  },
  {
    calls: ["clone3"],
    // Not EPERM: C libraries fall back to clone for this answer only.
    answer: "ENOSYS",
    unless: ["CAP_SYS_ADMIN"],
    why: "its flags are in memory, where no filter can look",
  },
  {
    calls: ["unshare", "setns", "listns"],
    answer: "EPERM",
    unless: ["CAP_SYS_ADMIN"],
    why: "in a user namespace of its own a service would have every capability, and the kernel code behind them",
  },
  {
    calls: [
      "mount",
      "umount2",
      "pivot_root",
      "open_tree",
      "open_tree_attr",
      "move_mount",
      "fsopen",
      "fsconfig",
      "fsmount",
      "fspick",
      "mount_setattr",
    ],
    answer: "EPERM",
    unless: ["CAP_SYS_ADMIN"],
    why: "the minimal /dev and the read-only /sys are mounts",
  },
  {
    calls: ["chroot"],
    answer: "EPERM",
    unless: ["CAP_SYS_CHROOT"],
    why: "another root fools programs that trust paths",
  },
  {
    calls: ["ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"],
    answer: "EPERM",
    unless: ["CAP_SYS_PTRACE"],
    why: "reads, changes or borrows from other processes of the same uid",
  },
  {
    calls: ["userfaultfd"],
    answer: "EPERM",
    unless: ["CAP_SYS_PTRACE"],
    why: "halts the kernel inside a copy for as long as it likes, which makes its races winnable",
  },
  {
    calls: ["bpf"],
    answer: "EPERM",
    unless: ["CAP_BPF", "CAP_SYS_ADMIN"],
    why: "programs inside the kernel",
  },
  {
    calls: ["perf_event_open"],
    answer: "EPERM",
    unless: ["CAP_PERFMON", "CAP_SYS_ADMIN"],
    why: "measures what neighbours do, and has a long list of faults",
  },
  {
    calls: ["add_key", "request_key", "keyctl"],
    answer: "EPERM",
    unless: [],
    why: "keyrings belong to uids, not to services, and outlive both",
  },
  {
    calls: ["open_by_handle_at", "name_to_handle_at"],
    answer: "EPERM",
    unless: ["CAP_DAC_READ_SEARCH"],
    why: "opens files by number, past every directory that would have refused",
  },
  {
    calls: [
      "init_module",
      "finit_module",
      "delete_module",
      "create_module",
      "query_module",
      "get_kernel_syms",
    ],
    answer: "EPERM",
    unless: ["CAP_SYS_MODULE"],
    why: "a module is the kernel",
  },
  {
    calls: ["kexec_load", "kexec_file_load", "reboot"],
    answer: "EPERM",
    unless: ["CAP_SYS_BOOT"],
    why: "ends the machine or replaces what was measured",
  },
  {
    calls: ["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"],
    answer: "EPERM",
    unless: ["CAP_SYS_TIME"],
    why: "certificates and attestation documents are judged by the clock",
  },
  {
    calls: ["swapon", "swapoff", "quotactl", "quotactl_fd"],
    answer: "EPERM",
    unless: ["CAP_SYS_ADMIN"],
    why: "administration of the machine; swapped memory is secrets on a disk",
  },
  {
    calls: ["acct"],
    answer: "EPERM",
    unless: ["CAP_SYS_PACCT"],
    why: "writes a line about every process of the machine into a file",
  },
  {
    calls: ["syslog"],
    answer: "EPERM",
    unless: ["CAP_SYSLOG", "CAP_SYS_ADMIN"],
    why: "the kernel's log tells addresses and what happened to neighbours",
  },
  {
    calls: ["iopl", "ioperm"],
    answer: "EPERM",
    unless: ["CAP_SYS_RAWIO"],
    why: "hardware without the kernel in between",
  },
  {
    // vm86 and vm86old are i386 calls: a foreign architecture.
    calls: ["modify_ldt"],
    answer: "EPERM",
    unless: [],
    why: "16-bit segments have broken the return to user mode more than once; only emulators need them",
  },
  {
    calls: ["lookup_dcookie", "nfsservctl", "uselib", "_sysctl"],
    answer: "EPERM",
    unless: [],
    why: "gone from new kernels; old ones (4.14 runs in enclaves) should not be asked either",
  },
];
