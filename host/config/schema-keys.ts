import { z } from "zod";

import type { YamlPath } from "../../core/yaml-file.ts";

/** Keys that the schema knows at `path`, to suggest the nearest one. */
export function schemaKeys(schema: z.ZodType, path: YamlPath): string[] {
  let reached: z.core.$ZodType[] = [schema];
  for (const key of path) reached = reached.flatMap((type) => childTypes(unwrap(type), key));
  return reached
    .flatMap((type) => unwrap(type))
    .flatMap((type) => (type instanceof z.ZodObject ? Object.keys(type.shape) : []));
}

function childTypes(types: readonly z.core.$ZodType[], key: string | number): z.core.$ZodType[] {
  return types.flatMap((type) => {
    if (type instanceof z.ZodObject) {
      const child: unknown = type.shape[key];
      return child instanceof z.ZodType ? [child] : [];
    }
    if (type instanceof z.ZodRecord) return [type.valueType];
    return type instanceof z.ZodArray ? [type.element] : [];
  });
}

/** The types behind defaults, options, transforms and unions. */
function unwrap(type: z.core.$ZodType): z.core.$ZodType[] {
  if (type instanceof z.ZodUnion) return type.options.flatMap(unwrap);
  if (type instanceof z.ZodPipe) return unwrap(type.in);
  if (isWrapper(type)) {
    return unwrap(type.def.innerType);
  }
  return [type];
}

function isWrapper(
  type: z.core.$ZodType,
): type is z.ZodDefault | z.ZodPrefault | z.ZodOptional | z.ZodNullable {
  const kinds = [z.ZodDefault, z.ZodPrefault, z.ZodOptional, z.ZodNullable];
  return kinds.some((kind) => type instanceof kind);
}
