#ifndef ENCLAVE_NSM_DEVICE_SERVE_H
#define ENCLAVE_NSM_DEVICE_SERVE_H

/*
 * Serves the device until a signal comes, which it returns 0 for; or -1 with errno: the device is no more.
 * `timeout_ms`: how long the host may take for one request.
 */
int serve_device(int channel, int signals, int timeout_ms);

#endif
