// Verifies requests with the library of Standard Webhooks for JavaScript and prints for each whether its signature is good.
// Usage: verify-webhooks.mjs KEY FILE, where FILE is JSON: [{ "headers": { ... }, "body": "..." }, ...]
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.argv[2]);
const results = JSON.parse(readFileSync(process.argv[3], "utf8")).map(({ headers, body }) => {
  try {
    webhook.verify(body, headers);
    return "good";
  } catch (error) {
    return error.message;
  }
});
console.log(JSON.stringify(results));
