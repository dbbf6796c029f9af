/** The API as an OpenAPI 3.1 document, from the schemas that requests are checked against. */
import { z } from "zod";

const error = z.object({
  error: z.string(),
  code: z.string().optional(),
  remedy: z.string().optional(),
  request_id: z.string().optional(),
});
/** One route for the document. Each noun lists its own (`operations` beside its routes). */
export interface Operation {
  method: "get" | "post" | "put" | "patch" | "delete" | "head";
  path: string;
  summary: string;
  query?: z.ZodObject;
  headers?: z.ZodObject;
  /** JSON; `raw` where the body is bytes. */
  body?: z.ZodType | "raw";
  result?: z.ZodType;
  status?: number;
}

const HEALTH: Operation = {
  method: "get",
  path: "/health",
  summary: "Liveness; needs no key",
  result: z.object({ status: z.string(), uptime: z.string() }),
};

export function openApiDocument(version: string, operations: Operation[]): unknown {
  const schemaOf = (schema: z.ZodType) => z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  const json = (schema: z.ZodType) => ({ "application/json": { schema: schemaOf(schema) } });
  const bytes = { "application/octet-stream": { schema: { type: "string", format: "binary" } } };
  const parameters = (where: "query" | "header", schema: z.ZodObject | undefined) => {
    const { properties = {}, required = [] } = schema ? (schemaOf(schema) as ObjectSchema) : {};
    return Object.entries(properties).map(([name, member]) => ({
      name,
      in: where,
      required: required.includes(name),
      schema: member,
    }));
  };
  const paths: Record<string, Record<string, unknown>> = {};
  for (const { method, path, summary, query, headers, body, result, status = 200 } of [
    HEALTH,
    ...operations,
  ]) {
    const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
    paths[path] ??= {};
    paths[path][method] = {
      summary,
      security: path === "/health" ? [] : [{ key: [] }],
      parameters: [
        ...names.map((name) => ({ name, in: "path", required: true, schema: { type: "string" } })),
        ...parameters("query", query),
        ...parameters("header", headers),
      ],
      ...(body ? { requestBody: { content: body === "raw" ? bytes : json(body) } } : {}),
      responses: {
        [status]: { description: "success", ...(result ? { content: json(result) } : {}) },
        default: { description: "error", content: json(error) },
      },
    };
  }
  return {
    openapi: "3.1.0",
    info: { title: "bhatti", version, license: { name: "Apache-2.0", identifier: "Apache-2.0" } },
    servers: [{ url: "/" }],
    components: { securitySchemes: { key: { type: "http", scheme: "bearer" } } },
    paths,
  };
}

interface ObjectSchema {
  properties?: Record<string, unknown>;
  required?: string[];
}
