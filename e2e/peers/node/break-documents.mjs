// Makes broken documents out of good ones: each key misspelled, each value of another type, each required part left out.
// Usage: break-documents.mjs INPUT FOLDER, where INPUT is a JSON list of {name, text}. Writes each broken document to FOLDER as
// JSON, and prints a line of JSON for each: its file and what was done.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";

const [input, folder] = process.argv.slice(2);
let count = 0;

function write(document, change) {
  const name = `broken-${count}`;
  // Each by a name of its own: two documents of one name are a fault of another kind.
  const metadata = document.metadata?.name ? { ...document.metadata, name } : document.metadata;
  const file = `${name}.json`;
  writeFileSync(join(folder, file), JSON.stringify({ ...document, metadata }));
  console.log(JSON.stringify({ file, change }));
  count += 1;
}

function* places(value, path = []) {
  for (const key of value !== null && typeof value === "object" ? Object.keys(value) : []) {
    yield [...path, key];
    yield* places(value[key], [...path, key]);
  }
}

function changed(document, path, change) {
  const copy = structuredClone(document);
  const above = path.slice(0, -1).reduce((value, key) => value[key], copy);
  change(above, path.at(-1));
  return copy;
}

for (const { text } of JSON.parse(readFileSync(input, "utf8"))) {
  for (const document of parseAllDocuments(text).map((parsed) => parsed.toJS())) {
    if (!document?.apiVersion?.includes("knative.dev")) continue;
    for (const path of places(document)) {
      const at = path.join(".");
      if (path[0] === "metadata" && path.length > 2) continue;
      if (!/^\d+$/.test(path.at(-1))) {
        write(changed(document, path, (above, key) => {
          above[`${key}Zz`] = above[key];
          delete above[key];
        }), `${at} misspelled`);
      }
      for (const [what, value] of [["a map", { zz: { zz: true } }], ["a list", [[true]]], ["a number", -7.5], ["an empty text", ""]]) {
        write(changed(document, path, (above, key) => { above[key] = value; }), `${at} is ${what}`);
      }
    }
  }
}
