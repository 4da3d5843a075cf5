#ifndef ENCLAVE_INIT_IMAGE_ROOT_H
#define ENCLAVE_INIT_IMAGE_ROOT_H

#include "machine.h"

/*
 * Makes the application's files the root. An image is two ramdisks that the kernel unpacks into one file system: ours
 * with /init and /modules, and the application's, all below /rootfs, so that nothing of an application can stand in
 * the place of init. Ends the machine where there is no /rootfs.
 */
void enter_image_root(struct machine *machine);

#endif
