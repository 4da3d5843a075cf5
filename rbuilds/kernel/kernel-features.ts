/** What every enclave needs of its kernel, whoever built it. */
export interface KernelFeature {
  /** Without CONFIG_. */
  readonly option: string;
  /** Module that brings it where it is not built in; absent: it must be built in. */
  readonly module?: string;
  readonly reason: string;
}

export const DEFAULT_FEATURES: readonly KernelFeature[] = [
  { option: "BLK_DEV_INITRD", reason: "the image is ramdisks" },
  { option: "BINFMT_ELF", reason: "programs" },
  { option: "PROC_FS", reason: "/proc" },
  { option: "SYSFS", reason: "/sys" },
  { option: "TMPFS", reason: "/run and /tmp" },
  { option: "DEVTMPFS", reason: "/dev" },
  { option: "UNIX", reason: "sockets between the enclave's own processes" },
  { option: "INET", reason: "loopback" },
  { option: "NAMESPACES", reason: "confinement of services" },
  { option: "CGROUPS", reason: "limits of services" },
  { option: "MEMCG", reason: "mem_limit" },
  { option: "CGROUP_PIDS", reason: "pids_limit" },
  { option: "SECCOMP_FILTER", reason: "confinement of services" },
  { option: "VSOCKETS", module: "vsock", reason: "the only way in and out" },
  { option: "VIRTIO_VSOCKETS", module: "vmw_vsock_virtio_transport", reason: "the only way in and out" },
  { option: "VIRTIO_MMIO", module: "virtio_mmio", reason: "devices of an enclave" },
  { option: "VIRTIO_MMIO_CMDLINE_DEVICES", reason: "devices that the hypervisor names" },
  { option: "HW_RANDOM", module: "rng-core", reason: "entropy" },
];

/** Modules that a kernel of a distribution is asked for, in the order of loading; those built in are left out. */
export const WANTED_MODULES = [
  "virtio_mmio",
  "virtio-rng",
  "vsock",
  "vmw_vsock_virtio_transport",
  "vsock_loopback",
  "nsm",
  "overlay",
  "fuse",
  "cuse",
  "tun",
  "nf_tables",
  "nft_redir",
  "nft_tproxy",
] as const;
