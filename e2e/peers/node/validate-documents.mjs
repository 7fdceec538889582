// Validates YAML documents with ajv, against the JSON Schema that `headgate schema` prints.
// Usage: validate-documents.mjs SCHEMA INPUT, where INPUT is a JSON list of {name, text}. Prints, as a line of JSON for each document
// of each text, its name, its kind and the errors.
import { readFileSync } from "node:fs";
import Ajv from "ajv";
import addFormats from "ajv-formats";
import { parseAllDocuments } from "yaml";

const [schema, input] = process.argv.slice(2).map((file) => JSON.parse(readFileSync(file, "utf8")));
// Words for editors, which a validator does not know.
const ajv = new Ajv({ allErrors: true, strict: true, strictTypes: false, strictRequired: false, allowUnionTypes: true });
ajv.addVocabulary(["errorMessage", "patternErrorMessage"]);
addFormats(ajv);
const validate = ajv.compile(schema);
for (const { name, text } of input) {
  for (const document of parseAllDocuments(text)) {
    const value = document.toJS();
    if (value === null) continue;
    const valid = validate(value) && document.errors.length === 0;
    const errors = [...document.errors, ...(validate.errors ?? [])].map((error) => `${error.instancePath ?? ""} ${error.message}`);
    console.log(JSON.stringify({ name, kind: value.kind ?? null, valid, errors }));
  }
}
