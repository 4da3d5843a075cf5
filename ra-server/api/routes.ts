/** The attestation API as a table: what the server serves and what docs/attestation-openapi.json describes. */
import { z } from "zod";

import {
  AttestationAnswerSchema,
  AttestationRequestSchema,
  HealthSchema,
  ImageSchema,
  ReadySchema,
  RegistersSchema,
  VerifyAnswerSchema,
  VerifyRequestSchema,
} from "../../wire/attestation-api.ts";

export interface ApiRoute {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly summary: string;
  /** JSON; absent: none. */
  readonly body?: z.ZodType;
  readonly answer?: z.ZodType;
  /** JSON unless said otherwise. */
  readonly answerType?: string;
}

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export const API_ROUTES = {
  health: {
    method: "GET",
    path: "/v1/health",
    summary: "The server answers; nothing else is said",
    answer: HealthSchema,
  },
  ready: {
    method: "GET",
    path: "/v1/ready",
    summary: "Documents can be had; 503 with the code of the reason if not",
    answer: ReadySchema,
  },
  metrics: {
    method: "GET",
    path: "/v1/metrics",
    summary: "Counters for Prometheus",
    answerType: METRICS_TYPE,
    answer: z.string(),
  },
  attestation: {
    method: "POST",
    path: "/v1/attestation",
    summary:
      "A document with the caller's nonce; its user_data is that of purpose `statement` over the statement, or over no bytes",
    body: AttestationRequestSchema,
    answer: AttestationAnswerSchema,
  },
  pcrs: {
    method: "GET",
    path: "/v1/pcrs",
    summary: "Registers of the newest document: only this server's word, a document proves them",
    answer: RegistersSchema,
  },
  image: {
    method: "GET",
    path: "/v1/image",
    summary: "What the image was made from: only this server's word, a document proves its registers",
    answer: ImageSchema,
  },
  verify: {
    method: "POST",
    path: "/v1/verify",
    summary:
      "This enclave's verdict on a document: only its word, so ask an enclave that is proven, or verify yourself",
    body: VerifyRequestSchema,
    answer: VerifyAnswerSchema,
  },
  openapi: {
    method: "GET",
    path: "/v1/openapi.json",
    summary: "This description",
    answer: z.record(z.string(), z.unknown()),
  },
} as const satisfies Readonly<Record<string, ApiRoute>>;

export type Operation = keyof typeof API_ROUTES;
