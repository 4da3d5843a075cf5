/**
 * Work of maintainer scripts that no finisher does, because its result is a secret, depends on the machine or needs
 * the package's own programs to run. The operator is told, with what to do instead.
 */
import type { FinishContext } from "./finish-context.ts";

const UNFINISHED: readonly (readonly [packages: RegExp, advice: string])[] = [
  [/^postgresql-\d+$/, "no database cluster is made; run initdb in a service of its own before the server"],
  [/^(?:mariadb|mysql)-server$/, "no system tables are made; run mariadb-install-db in a service of its own"],
  [/^slapd$/, "no directory database is made; load one with slapadd in a service of its own"],
  [
    /^openssh-server$/,
    "no host keys are made, since they would be the same in every enclave; make them at start",
  ],
  [/^ssl-cert$/, "no self-signed certificate is made, since its key would be in the image"],
  [/^ca-certificates-java$/, "Java's key store is not made; give Java one with -Djavax.net.ssl.trustStore"],
  [/^locales$/, "no locale is generated; C.UTF-8 of libc-bin and locales-all need none"],
  [/^libpam-runtime$/, "PAM's common configuration is not made; su and login do not work"],
];

export function finishUnfinished(context: FinishContext): Promise<void> {
  for (const { name } of context.packages) {
    const [, advice] = UNFINISHED.find(([packages]) => packages.test(name)) ?? [];
    if (advice !== undefined) context.warn(`${name}: ${advice}`);
  }
  return Promise.resolve();
}
