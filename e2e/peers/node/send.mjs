// Sends one event in binary and one in structured mode with the CloudEvents SDK for JavaScript. Usage: send.mjs URL
import { CloudEvent, HTTP } from "cloudevents";

const [url] = process.argv.slice(2);
for (const mode of ["binary", "structured"]) {
  const event = new CloudEvent({
    id: mode,
    source: "/foreign",
    type: "e2e.foreign",
    datacontenttype: "application/json",
    ext: "ümlaut 100%",
    data: { greeting: "grüß dich", n: 7 },
  });
  const message = HTTP[mode](event);
  const headers = Object.fromEntries(
    // The SDK leaves the percent-encoding of header values to its user.
    Object.entries(message.headers).map(([name, value]) => [
      name,
      name.startsWith("ce-") ? encodeURI(String(value)) : String(value),
    ]),
  );
  const answer = await fetch(url, { method: "POST", headers, body: message.body });
  if (answer.status !== 202) throw new Error(`${mode}: ${answer.status} ${await answer.text()}`);
}
