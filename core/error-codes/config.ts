import { EXIT, type ErrorEntry } from "./error-entry.ts";

export const CONFIG_ERRORS = {
  E_CONFIG_NOT_FOUND: {
    exit: EXIT.notFound,
    meaning: "The configuration file does not exist or cannot be read.",
    hint: "Name an existing file, or make one with `pipeline init`.",
  },
  E_CONFIG_TOO_LARGE: {
    exit: EXIT.usage,
    meaning: "The configuration file is larger than 1 MiB.",
    hint: "An enclave.yaml is a few kilobytes; is this the right file?",
  },
  E_CONFIG_SYNTAX: {
    exit: EXIT.usage,
    meaning: "The file is not well-formed YAML.",
    hint: "Mend the YAML at the place named.",
  },
  E_CONFIG_UNKNOWN_KEY: {
    exit: EXIT.usage,
    meaning: "The configuration holds a key that does not exist.",
    hint: "Remove the key or correct its name; docs/enclave-yaml.md lists all keys.",
  },
  E_CONFIG_INVALID: {
    exit: EXIT.usage,
    meaning: "A value has the wrong type or form, or a required key is missing.",
    hint: "Correct the value at the place named; docs/enclave-yaml.md lists all keys.",
  },
  E_CONFIG_DEPENDENCY: {
    exit: EXIT.usage,
    meaning: "depends_on names a service that does not exist, or the dependencies form a cycle.",
    hint: "Correct depends_on at the place named.",
  },
  E_CONFIG_PORT: {
    exit: EXIT.usage,
    meaning: "A port mapping is malformed, or the same port is published twice.",
    hint: 'Write ports as "127.0.0.1:8080:80" and give each host port once.',
  },
  E_CONFIG_FILE_MISSING: {
    exit: EXIT.notFound,
    meaning: "A file or directory that the configuration names does not exist.",
    hint: "Paths are relative to the directory of the enclave.yaml.",
  },
  E_CONFIG_NO_COMMAND: {
    exit: EXIT.usage,
    meaning: "A service has no command, and the image has neither ENTRYPOINT nor CMD.",
    hint: "Give the service a command.",
  },
  E_CONFIG_ISOLATION: {
    exit: EXIT.usage,
    meaning: "In production every service needs a user of its own that is not root.",
    hint: "Leave `user:` out, so that the service gets a uid of its own, or name another user.",
  },
  E_CONFIG_UNSUPPORTED: {
    exit: EXIT.usage,
    meaning: "The configuration asks for something that the chosen backend or this release cannot do.",
    hint: "Remove the key, or choose another backend.",
  },
} as const satisfies Record<string, ErrorEntry>;
