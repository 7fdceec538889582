// Receives events with the CloudEvents SDK for JavaScript and prints each as a line of JSON. Usage: receive.mjs PORT
import { createServer } from "node:http";
import { HTTP } from "cloudevents";

createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const headers = Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [
        name,
        name.startsWith("ce-") ? decodeURIComponent(value) : value,
      ]),
    );
    const event = HTTP.toEvent({ headers, body: Buffer.concat(chunks).toString("utf8") });
    event.validate();
    const { id, type, source, ext, data } = event;
    console.log(JSON.stringify({ path: request.url, id, type, source, ext, data }));
    response.writeHead(204).end();
  });
}).listen(Number(process.argv[2]), "127.0.0.1", () => console.log("ready"));
