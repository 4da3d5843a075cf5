/**
 * The command line of QEMU. Devices arrive as the hypervisor of Nitro hands them over: virtio-mmio, named on the kernel's
 * command line, without PCI and ACPI. What was tried and why: every switch that is not obvious has its reason here.
 */

export interface QemuVm {
  readonly accelerator: "kvm" | "tcg";
  readonly cpus: number;
  readonly memoryMib: number;
  readonly kernel: string;
  readonly ramdisk: string | undefined;
  /** Of the image. */
  readonly commandLine: string;
  readonly vsock: { readonly socketPath: string } | undefined;
  /** Folders with firmware. */
  readonly dataFolders: readonly string[];
}

/**
 * A guest that reboots ends the machine (-no-reboot). The image's own `reboot=k` asks a keyboard controller that is not
 * there, so a triple fault follows as the later word; a panic ends at once instead of in 30 seconds.
 */
const APPENDED = "reboot=t panic=-1";

export function qemuArguments(vm: QemuVm): string[] {
  const options: string[][] = [
    ["-nodefaults", "-no-user-config", "-nographic", "-no-reboot"],
    ...vm.dataFolders.map((folder) => ["-L", folder]),
    // vhost-user needs memory that another process can map.
    ["-object", `memory-backend-memfd,id=memory,size=${vm.memoryMib}M,share=on`],
    ["-M", "microvm,acpi=off,rtc=on,memory-backend=memory"],
    accelerator(vm.accelerator),
    ["-smp", String(vm.cpus), "-m", `${vm.memoryMib}M`],
    ["-kernel", vm.kernel, "-append", `${vm.commandLine} ${APPENDED}`],
    vm.ramdisk === undefined ? [] : ["-initrd", vm.ramdisk],
    ["-serial", "stdio", "-monitor", "none"],
    ["-device", "virtio-rng-device"],
    vm.vsock === undefined ? [] : vsockDevice(vm.vsock.socketPath),
  ];
  return options.flat();
}

function accelerator(kind: QemuVm["accelerator"]): string[] {
  return kind === "kvm" ? ["-accel", "kvm", "-cpu", "host"] : ["-accel", "tcg,thread=multi", "-cpu", "max"];
}

function vsockDevice(socketPath: string): string[] {
  // A comma ends a value in QEMU's options; two are one.
  const path = socketPath.replaceAll(",", ",,");
  return ["-chardev", `socket,id=vsock,path=${path}`, "-device", "vhost-user-vsock-device,chardev=vsock"];
}
