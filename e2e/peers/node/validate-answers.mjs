// Validates answers of the admin API with ajv, against the OpenAPI description that the gateway serves.
// Usage: validate-answers.mjs OPENAPI INPUT, where INPUT is a JSON list of {path, method, status, type, body}; `path` is the
// template in the description. An answer with a member that is not described is an error, and so is a described member that no
// answer has. Prints the errors as a JSON list.
import { readFileSync } from "node:fs";
import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const [openapi, answers] = process.argv.slice(2).map((file) => JSON.parse(readFileSync(file, "utf8")));
const errors = [];
const described = new Set();
const seen = new Set();

// Closes every object that does not say it is open, and notes its members.
function close(schema, at) {
  if (schema === null || typeof schema !== "object") return schema;
  if (Array.isArray(schema)) return schema.map((part, index) => close(part, `${at}/${index}`));
  const closed = {};
  for (const [word, part] of Object.entries(schema)) {
    if (word === "properties") {
      closed.properties = {};
      for (const [name, inner] of Object.entries(part)) {
        described.add(`${at}/properties/${name}`);
        closed.properties[name] = { ...close(inner, `${at}/properties/${name}`), "x-at": `${at}/properties/${name}` };
      }
    } else closed[word] = close(part, `${at}/${word}`);
  }
  if (closed.properties && !("additionalProperties" in closed)) closed.additionalProperties = false;
  return closed;
}

const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false, allowUnionTypes: true, formats: { double: true } });
addFormats(ajv);
ajv.addVocabulary(["components", "example"]);
ajv.addKeyword({ keyword: "x-at", validate: (at) => seen.add(at) });
const schemas = Object.fromEntries(
  Object.entries(openapi.components.schemas).map(([name, schema]) => [name, close(schema, `#/components/schemas/${name}`)]),
);
ajv.addSchema({ $id: "openapi", components: { schemas } });

for (const { path, method, status, type, body } of answers) {
  const name = `${method} ${path} ${status} ${type}`;
  const operation = openapi.paths[path]?.[method.toLowerCase()];
  const response = operation?.responses[status] ?? operation?.responses[`${String(status)[0]}XX`];
  const resolved = response?.$ref ? openapi.components.responses[response.$ref.split("/").at(-1)] : response;
  const content = resolved?.content?.[type];
  if (!content) {
    errors.push(`${name} is not described`);
    continue;
  }
  seen.add(`${path} ${method.toLowerCase()} ${status < 300 ? status : "refused"} ${type}`);
  if (!content.schema || content.schema.type === "string") continue;
  const reference = JSON.parse(JSON.stringify(content.schema).replaceAll('"#/', '"openapi#/'));
  const validate = ajv.compile(reference);
  const values = type === "application/x-ndjson" ? body.trim().split("\n") : [body];
  for (const value of values) {
    if (!validate(JSON.parse(value))) errors.push(`${name}: ${ajv.errorsText(validate.errors)} in ${value.slice(0, 2000)}`);
  }
}

// Of requests, what is described is known to be read by the tests that send it.
const requests = new Set();
for (const operations of Object.values(openapi.paths)) {
  for (const { requestBody } of Object.values(operations)) {
    const schema = requestBody?.content["application/json"].schema;
    if (schema?.$ref) requests.add(schema.$ref);
  }
}
const ofRequest = (member) => [...requests].some((reference) => member.startsWith(`${reference}/`));
for (const member of described) if (!seen.has(member) && !ofRequest(member)) errors.push(`${member} is in no answer`);
for (const [path, operations] of Object.entries(openapi.paths)) {
  for (const [method, operation] of Object.entries(operations)) {
    for (const [status, response] of Object.entries(operation.responses ?? {})) {
      for (const type of Object.keys(response.content ?? {})) {
        if (status.startsWith("2") && !seen.has(`${path} ${method} ${status} ${type}`)) {
          errors.push(`${method} ${path} ${status} ${type} was not asked for`);
        }
      }
    }
  }
}
console.log(JSON.stringify(errors));
