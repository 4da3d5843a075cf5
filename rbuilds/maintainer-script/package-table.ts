/**
 * What the scripts of some packages do in ways that reading them does not tell: functions with arguments, loops,
 * answers of debconf. Each entry was read off the script of the release named, and adds to what reading finds.
 */
import { type AccountRequest, NO_HOME, NOLOGIN } from "./account-commands.ts";
import type { PathAction } from "./path-commands.ts";

export interface PackageFacts {
  readonly accounts: readonly AccountRequest[];
  readonly paths: readonly PathAction[];
}

function directory(path: string, user: string, group: string, mode: string): PathAction {
  return { path, create: true, user, group, mode, recursive: false };
}

function owned(path: string, user: string, group: string, mode: string): PathAction {
  return { path, create: false, user, group, mode, recursive: false };
}

function user(name: string, group: string | undefined): AccountRequest {
  return {
    kind: "user",
    name,
    group,
    uid: undefined,
    home: NO_HOME,
    shell: NOLOGIN,
    comment: "",
    createHome: false,
  };
}

export const PACKAGE_TABLE: ReadonlyMap<string, PackageFacts> = new Map<string, PackageFacts>([
  [
    // bookworm 7.0: Setup_dir DIR MODE GROUP
    "redis-tools",
    {
      accounts: [],
      paths: [
        directory("/var/log/redis", "redis", "adm", "2750"),
        directory("/var/lib/redis", "redis", "redis", "0750"),
        directory("/etc/redis", "redis", "redis", "2770"),
      ],
    },
  ],
  [
    // trixie: the fork of redis has the same function
    "valkey-tools",
    {
      accounts: [],
      paths: [
        directory("/var/log/valkey", "valkey", "adm", "2750"),
        directory("/var/lib/valkey", "valkey", "valkey", "0750"),
        directory("/etc/valkey", "valkey", "valkey", "2770"),
      ],
    },
  ],
  [
    // bookworm 4.3: for d in ...; then by path
    "chrony",
    {
      accounts: [],
      paths: [
        owned("/var/lib/chrony", "_chrony", "_chrony", "0750"),
        owned("/var/log/chrony", "_chrony", "_chrony", "0750"),
        owned("/etc/chrony/chrony.keys", "root", "_chrony", "0640"),
      ],
    },
  ],
  [
    // bookworm 10.11: variables from my_print_defaults
    "mariadb-server",
    {
      accounts: [],
      paths: [
        directory("/var/lib/mysql", "mysql", "mysql", "0755"),
        directory("/var/log/mysql", "mysql", "adm", "2750"),
      ],
    },
  ],
  [
    // bookworm 5.7: directories by squid's own configuration
    "squid",
    {
      accounts: [],
      paths: [
        directory("/var/log/squid", "proxy", "proxy", "0750"),
        directory("/var/spool/squid", "proxy", "proxy", "0750"),
      ],
    },
  ],
  [
    // bookworm 0.4.7: for i in lib log; do mkdir "/var/$i/tor"
    "tor",
    {
      accounts: [],
      paths: [
        directory("/var/lib/tor", "debian-tor", "debian-tor", "2700"),
        directory("/var/log/tor", "debian-tor", "adm", "2750"),
      ],
    },
  ],
  [
    // bookworm 7.1: for user in $worker_user $log_user
    "varnish",
    {
      accounts: [user("vcache", "varnish"), user("varnishlog", "varnish")],
      paths: [
        directory("/var/lib/varnish", "varnish", "varnish", "0755"),
        directory("/var/log/varnish", "varnishlog", "varnish", "0750"),
      ],
    },
  ],
]);
