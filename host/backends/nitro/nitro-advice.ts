/** Every documented code of nitro-cli with its name and what to do about it. */
import type { ErrorCode } from "../../../core/error-table.ts";

export interface NitroAdvice {
  readonly name: string;
  readonly hint: string;
  /** E_NITRO_CLI unless an operator acts differently on it. */
  readonly error?: ErrorCode;
}

const ALLOCATOR = "/etc/nitro_enclaves/allocator.yaml";
const RESTART = "`sudo systemctl restart nitro-enclaves-allocator.service`";
const LOG = "/var/log/nitro_enclaves/nitro_enclaves.log says more.";
const REPORT = "It is a call that this toolkit should not make: report it with the message.";
const UNUSED = "The command that gives it is not used by this toolkit; report it with the message.";
const AGAIN = "Try again; if it stays, terminate other enclaves and look into";
const SYSTEM = `${AGAIN} /var/log/nitro_enclaves/nitro_enclaves.log.`;
const FILES = "Look at the rights and the free space of /run/nitro_enclaves and /var/log/nitro_enclaves.";
const CPU_HINT = `Choose whole cores of the pool, never CPU 0's: correct resources.cpus or resources.cpu_ids, or the pool in ${ALLOCATOR}, then ${RESTART}.`;
const IMAGE =
  "The image is damaged or of another architecture: `pipeline inspect` checks it; build it again.";

const MEMORY = "E_NITRO_MEMORY";
const CPU = "E_NITRO_CPU";
const ACCESS = "E_NITRO_ACCESS";
const BOOT = "E_NITRO_BOOT";

export const NITRO_ADVICE: Readonly<Record<string, NitroAdvice>> = {
  E00: { name: "unspecified error", hint: LOG },
  E01: { name: "missing argument", hint: REPORT },
  E02: { name: "conflicting arguments", hint: REPORT },
  E03: { name: "invalid argument", hint: REPORT },
  E04: { name: "socket pair failure", hint: SYSTEM },
  E05: { name: "process spawn failure", hint: "Look for limits on processes and memory: `ulimit -a`, `free -m`." },
  E06: { name: "daemonize failure", hint: SYSTEM },
  E07: { name: "read from disk failure", hint: "Look at the image file and the disk: `pipeline inspect`, `dmesg`." },
  E08: { name: "unusable connection", hint: SYSTEM },
  E09: { name: "socket close failure", hint: SYSTEM },
  E10: { name: "socket connect timeout", hint: `An enclave's process does not answer: \`nitro-cli describe-enclaves\`; ${LOG}` },
  E11: { name: "socket failure", hint: "Check /dev/vsock (`pipeline doctor`), and that nobody listens on vsock port 9000: `ss --vsock -l`." },
  E12: { name: "epoll failure", hint: SYSTEM },
  E13: { name: "inotify failure", hint: "Raise fs.inotify.max_user_instances and max_user_watches with sysctl." },
  E14: { name: "invalid command", hint: "This nitro-cli is older than the toolkit knows: update aws-nitro-enclaves-cli." },
  E15: { name: "lock failure", hint: SYSTEM },
  E16: { name: "thread join failure", hint: SYSTEM },
  E17: { name: "serialization failure", hint: "nitro-cli and a running enclave's process are of different versions: terminate all enclaves after an update." },
  E18: { name: "file permissions failure", hint: "Join the group: `sudo usermod -aG ne $USER`, and log in again.", error: ACCESS },
  E19: { name: "file operation failure", hint: `${FILES} \`pipeline doctor\` checks devices and driver.` },
  E20: { name: "invalid CPU configuration", hint: CPU_HINT, error: CPU },
  E21: { name: "no such CPU in the pool", hint: CPU_HINT, error: CPU },
  E22: { name: "insufficient CPUs available", hint: `Other enclaves hold them, or the pool is too small: terminate one, ask for fewer, or raise cpu_count in ${ALLOCATOR}, then ${RESTART}.`, error: CPU },
  E23: { name: "malformed CPU id", hint: CPU_HINT, error: CPU },
  E24: { name: "CPU failure", hint: CPU_HINT, error: CPU },
  E25: { name: "no such huge page flag", hint: "The kernel has no huge pages of that size: `ls /sys/kernel/mm/hugepages`.", error: MEMORY },
  E26: { name: "insufficient memory requested", hint: "An enclave needs four times the size of its image: raise resources.memory to the number in the message.", error: MEMORY },
  E27: { name: "insufficient memory available", hint: `Too few huge pages are free: raise memory_mib in ${ALLOCATOR}, then ${RESTART}; \`pipeline doctor\` counts them per NUMA node.`, error: MEMORY },
  E28: { name: "invalid enclave descriptor", hint: SYSTEM },
  E29: { name: "ioctl failure", hint: `Often right after another enclave ended, or a context id in use: try again; else ${RESTART}. \`dmesg\` has the driver's word.` },
  E30: { name: "image load info failure", hint: "Driver and nitro-cli do not fit each other: update both, and see `dmesg`." },
  E31: { name: "set memory region failure", hint: `The driver refused the memory, often of another NUMA node than the CPUs: set resources.numa_node; then ${RESTART}.`, error: MEMORY },
  E32: { name: "add vCPU failure", hint: CPU_HINT, error: CPU },
  E33: { name: "enclave start failure", hint: `Try again; see \`dmesg\`, then ${RESTART}.` },
  E34: { name: "memory overflow", hint: "The image does not fit into the enclave's memory: raise resources.memory.", error: MEMORY },
  E35: { name: "EIF parsing failure", hint: IMAGE },
  E36: { name: "enclave boot failure", hint: "Boot the same image with `--backend qemu`, which shows its console; a signature that has expired shows in `pipeline inspect`.", error: BOOT },
  E37: { name: "enclave event wait failure", hint: SYSTEM },
  E38: { name: "enclave process did not execute the command", hint: SYSTEM },
  E39: { name: "enclave process connection failure", hint: `An enclave's process does not answer, or belongs to another user; ${LOG}` },
  E40: { name: "socket path not found", hint: "The enclave has ended, or NITRO_CLI_SOCKETS_PATH differs; /run/nitro_enclaves must be there." },
  E41: { name: "enclave process sent no reply", hint: SYSTEM },
  E42: { name: "mmap failure", hint: `Too few huge pages are free: raise memory_mib in ${ALLOCATOR}, then ${RESTART}.`, error: MEMORY },
  E43: { name: "munmap failure", hint: SYSTEM },
  E44: { name: "console connection failure", hint: "There is a console in debug mode only, and not after the end of the enclave." },
  E45: { name: "console read failure", hint: "The console ends with the enclave; its last lines are in `pipeline logs NAME -s console`." },
  E46: { name: "console write failure", hint: SYSTEM },
  E47: { name: "integer parsing failure", hint: REPORT },
  E48: { name: "EIF building failure", hint: UNUSED },
  E49: { name: "docker image build failure", hint: UNUSED },
  E50: { name: "docker image pull failure", hint: UNUSED },
  E51: { name: "artifacts path not set", hint: UNUSED },
  E52: { name: "blobs path not set", hint: UNUSED },
  E53: { name: "clock skew", hint: "The clock went backwards: check `timedatectl` and chrony." },
  E54: { name: "signal masking failure", hint: SYSTEM },
  E55: { name: "signal unmasking failure", hint: SYSTEM },
  E56: { name: "logger failure", hint: "Join the group `ne`, which may write /var/log/nitro_enclaves: `sudo usermod -aG ne $USER`, and log in again.", error: ACCESS },
  E57: { name: "hasher failure", hint: IMAGE },
  E58: { name: "enclave naming failure", hint: "Choose another name for the enclave with --name." },
  E59: { name: "EIF signature check failure", hint: "The signature of the image is bad or its certificate expired: `pipeline inspect` tells; sign it again." },
  E60: { name: "EIF signing failure", hint: UNUSED },
}; // prettier-ignore
