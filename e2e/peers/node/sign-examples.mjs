// Signs every example payload of @octokit/webhooks-examples with @octokit/webhooks, GitHub's own library.
// Usage: sign-examples.mjs SECRET FOLDER. Writes each payload to FOLDER, and a line of JSON for each to stdout.
import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Webhooks } from "@octokit/webhooks";

const [secret, folder] = process.argv.slice(2);
const examples = createRequire(import.meta.url)("@octokit/webhooks-examples");
const webhooks = new Webhooks({ secret });
let count = 0;
for (const { name, examples: payloads } of examples.default ?? examples) {
  for (const payload of payloads) {
    // Indented now and then: the bytes, not their meaning, are what is signed.
    const body = JSON.stringify(payload, null, count % 3);
    const file = join(folder, String(count));
    const guid = `00000000-0000-4000-8000-${String(count).padStart(12, "0")}`;
    writeFileSync(file, body);
    const signature = await webhooks.sign(body);
    console.log(JSON.stringify({ event: name, guid, signature, file }));
    count += 1;
  }
}
