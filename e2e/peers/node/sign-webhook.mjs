// Signs a body with `standardwebhooks`, the library of that specification, and prints the headers as JSON.
// Usage: sign-webhook.mjs SECRET BODY [SECONDS], SECONDS from now
import { Webhook } from "standardwebhooks";

const [secret, body, seconds = "0"] = process.argv.slice(2);
const id = "msg_1";
const time = new Date(Date.now() + 1000 * Number(seconds));
console.log(
  JSON.stringify({
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(time.getTime() / 1000)),
    "webhook-signature": new Webhook(secret).sign(id, time, body),
  }),
);
