/** The route table as an OpenAPI 3.1 document. */
import { z } from "zod";

import { ProblemSchema } from "../../wire/attestation-api.ts";
import { PROBLEM_TYPE } from "./problem.ts";
import { API_ROUTES, type ApiRoute } from "./routes.ts";

type Json = Readonly<Record<string, unknown>>;

export function describeAttestationApi(): Json {
  const routes: readonly (readonly [string, ApiRoute])[] = Object.entries(API_ROUTES);
  return {
    openapi: "3.1.0",
    info: {
      title: "Attestation API of an enclave",
      version: "1",
      description:
        "HTTPS, TLS 1.3 alone, on vsock port 8443. The certificate carries the enclave's attestation document over its key: a client that verifies it before it sends anything (attestedFetch) needs no other proof of what it talks to.",
    },
    paths: Object.fromEntries(
      routes.map(([operation, route]) => [
        route.path,
        { [route.method.toLowerCase()]: describeRoute(operation, route) },
      ]),
    ),
    components: { schemas: { Problem: toSchema(ProblemSchema) } },
  };
}

function describeRoute(operationId: string, { summary, body, answer, answerType }: ApiRoute): Json {
  const content = {
    [answerType ?? "application/json"]: answer === undefined ? {} : { schema: toSchema(answer) },
  };
  return {
    operationId,
    summary,
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { "application/json": { schema: toSchema(body) } } } }),
    responses: {
      200: { description: summary, content },
      default: {
        description: "A refusal, by its code",
        content: { [PROBLEM_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } },
      },
    },
  };
}

function toSchema(schema: z.ZodType): Json {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return rest;
}
