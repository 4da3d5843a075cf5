import fc from "fast-check";
import { expect, test } from "vitest";

import { assignUsers } from "../../host/image/assigned-user.ts";
import { GATEWAY_ID } from "../../wire/runtime-layout.ts";

const names = fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/), { maxLength: 200 });

test("every service gets a uid of its own, of the range for it", () => {
  fc.assert(
    fc.property(names, (list) => {
      const uids = [...assignUsers(list).values()].map((user) => user.uid);
      expect(new Set(uids).size).toBe(list.length);
      for (const uid of uids) {
        expect(uid).toBeGreaterThanOrEqual(61_184);
        expect(uid).toBeLessThan(GATEWAY_ID);
      }
    }),
  );
});

test("the order in which services are named makes no difference", () => {
  fc.assert(
    fc.property(names, (list) => {
      expect(assignUsers([...list].reverse())).toEqual(assignUsers(list));
    }),
  );
});

test("a uid stays when a service comes whose uid is another", () => {
  const before = assignUsers(["web"]).get("web");
  expect(assignUsers(["web", "worker", "cache"]).get("web")).toEqual(before);
  expect(before).toMatchObject({ name: "web", groups: [], home: "/", assigned: true });
});
