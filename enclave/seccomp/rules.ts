/**
 * What a service may not ask of the kernel, as a checklist: argument-rules.ts and refused-calls.ts.
 *
 * Services are arbitrary programs, so this is a deny list: what is not named is allowed. Own uids, no_new_privs, an
 * empty capability set, cgroups and an own mount namespace hold a service already. The filter takes away what those do
 * not cover (AF_VSOCK knows no namespaces) and the parts of the kernel through which such walls have been broken.
 * Every refusal is an errno, because programs probe for features and go on without; only a call of a foreign
 * architecture kills (filter.ts).
 *
 * Docker's default profile is an allow list of some 350 calls. It allows what is refused here: AF_NETLINK, AF_PACKET
 * and raw sockets (its containers have a network each), ptrace and process_vm_* among equals, changes of ids,
 * name_to_handle_at, modify_ldt, adjtimex, more personalities, TIOCSTI, 32-bit and x32 calls. It refuses what is left
 * to the kernel's own checks of capabilities here: fanotify_init, sethostname, setdomainname, vhangup, mbind.
 * systemd filters nothing unless told; its group of calls for services (@system-service) allows io_uring, keyrings,
 * changes of ids and namespaces, refused here, and keeps from services the calls of its privileged groups, as here.
 */
import { ARGUMENT_RULES, listIdentityRules, listSocketRules, type Identity } from "./argument-rules.ts";
import { REFUSED_CALLS } from "./refused-calls.ts";
import type { Rule } from "./rule.ts";

/** What the measured configuration says about one service. */
export interface Grants {
  /** Names such as CAP_NET_ADMIN. */
  readonly capabilities: ReadonlySet<string>;
  readonly identity: Identity | undefined;
  /** May list network interfaces. */
  readonly netlink: boolean;
}

/** The rules that bind a service. Several may name one call; the first that applies answers. */
export function listRules({ capabilities, identity, netlink }: Grants): readonly Rule[] {
  const rules = [
    ...listSocketRules(capabilities, netlink),
    ...listIdentityRules(identity),
    ...ARGUMENT_RULES,
    ...REFUSED_CALLS,
  ];
  return rules.filter(({ unless }) => !unless.some((capability) => capabilities.has(capability)));
}
