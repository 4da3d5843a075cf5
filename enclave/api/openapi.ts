/** The route table as an OpenAPI 3.1 document. */
import { z } from "zod";

import { ErrorJsonSchema } from "../../wire/control-schemas.ts";
import { CONTROL_ROUTES, type ControlRoute } from "./routes.ts";

type Json = Readonly<Record<string, unknown>>;

export function describeApi(): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const [operation, route] of Object.entries(CONTROL_ROUTES)) {
    const path = route.path.replaceAll(/:(\w+)/g, "{$1}");
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: describeRoute(operation, route) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Control API of an enclave",
      version: "1",
      description: "Served on vsock port 9001 in development mode, and inside on a Unix socket.",
    },
    paths,
    components: { schemas: { Error: toSchema(ErrorJsonSchema) } },
  };
}

function describeRoute(operationId: string, route: ControlRoute): Json {
  const body = describeBody(route);
  return {
    operationId,
    summary: route.summary,
    parameters: [...pathParameters(route.path), ...queryParameters(route.query)],
    ...(body === undefined ? {} : { requestBody: body }),
    responses: {
      [route.status]: { description: route.summary, ...describeAnswer(route) },
      default: {
        description: "A refusal, by its code",
        content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
      },
    },
  };
}

function describeBody({ body, bodyType }: ControlRoute): Json | undefined {
  if (bodyType !== undefined) return { content: { [bodyType]: {} } };
  return body === undefined ? undefined : { content: { "application/json": { schema: toSchema(body) } } };
}

function describeAnswer({ answer, answerType }: ControlRoute): Json {
  const isEmpty = answer === undefined && answerType === undefined;
  if (isEmpty || answerType === "enclave-stream") return {};
  return {
    content: { [answerType ?? "application/json"]: answer === undefined ? {} : { schema: toSchema(answer) } },
  };
}

function pathParameters(path: string): Json[] {
  return [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
}

function queryParameters(query: z.ZodType | undefined): Json[] {
  if (query === undefined) return [];
  const { properties = {}, required = [] } = z.toJSONSchema(query, { io: "input", unrepresentable: "any" });
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: "query",
    required: required.includes(name),
    schema,
  }));
}

function toSchema(schema: z.ZodType): Json {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return rest;
}
