import { copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";

import { refuseDebugOfProduction } from "../../backends/nitro/confidentiality.ts";
import { findNitroCli } from "../../backends/nitro/find-nitro-cli.ts";
import { planNitro } from "../../backends/nitro/nitro-plan.ts";
import type { Toolkit } from "../toolkit.ts";
import { buildForMachine } from "./image-for-machine.ts";
import type { PreparedMachine, PrepareOptions } from "./prepared-machine.ts";

/** @throws E_NITRO_*, and what building an image file throws */
export async function prepareNitro(toolkit: Toolkit, options: PrepareOptions): Promise<PreparedMachine> {
  const { spec, name, debug } = options;
  const { searchPath } = toolkit.caller;
  // What would be refused in the end is refused before minutes of building.
  refuseDebugOfProduction(spec.mode, debug);
  await findNitroCli(searchPath);
  await using owned = new AsyncDisposableStack();
  const { eif, image, pcrs } = owned.use(await buildForMachine(toolkit, options));
  const plan = await planNitro({ spec, name, eifPath: eif, searchPath, debug });
  const files = owned.move();
  return {
    image,
    registers: { kind: "image", pcrs },
    accelerator: null,
    place: async (boot) => {
      const eifPath = join(boot, "image.eif");
      await mkdir(boot, { recursive: true, mode: 0o700 });
      await copyFile(eif, eifPath);
      const addon = join(toolkit.nativeDir, "vsock.node");
      return { backend: "nitro", plan: { ...plan, eifPath }, addon };
    },
    [Symbol.asyncDispose]: async () => await files.disposeAsync(),
  };
}
