#ifndef ENCLAVE_INIT_SETUP_H
#define ENCLAVE_INIT_SETUP_H

/* Each of these makes one property of the machine; what cannot be done is logged and left. */
void open_console(void);
void set_hostname(void);
void set_limits(void);

#endif
