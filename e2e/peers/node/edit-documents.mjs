// Opens documents in yaml-language-server, which editors use for YAML, as an editor does: the schema is the one that the first
// line of a document names. Usage: edit-documents.mjs FILE... Prints, as a line of JSON for each file, what an editor shows:
// `problems`, and, at a line that contains `#hover` or `#complete`, the hover text and the completions at the text before it.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const server = join(dirname(require.resolve("yaml-language-server/package.json")), "bin", "yaml-language-server");
const child = spawn(process.execPath, [server, "--stdio"], { stdio: ["pipe", "pipe", "inherit"] });
const waiting = new Map();
const published = new Map();
let last = 0;
let buffer = Buffer.alloc(0);

function send(message) {
  const body = JSON.stringify({ jsonrpc: "2.0", ...message });
  child.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

function request(method, params) {
  last += 1;
  const id = last;
  send({ id, method, params });
  return new Promise((resolve) => waiting.set(id, resolve));
}

function receive(message) {
  if (message.method === "textDocument/publishDiagnostics") {
    published.get(message.params.uri)?.(message.params.diagnostics);
  } else if (message.method && "id" in message) {
    // A question of the server: none of its settings is set.
    send({ id: message.id, result: message.method === "workspace/configuration" ? message.params.items.map(() => null) : null });
  } else if (waiting.has(message.id)) {
    waiting.get(message.id)(message.result);
  }
}

child.stdout.on("data", (bytes) => {
  buffer = Buffer.concat([buffer, bytes]);
  for (;;) {
    const end = buffer.indexOf("\r\n\r\n");
    const length = end < 0 ? NaN : Number(/Content-Length: (\d+)/i.exec(buffer.subarray(0, end).toString())[1]);
    if (!(buffer.length >= end + 4 + length)) return;
    receive(JSON.parse(buffer.subarray(end + 4, end + 4 + length).toString()));
    buffer = buffer.subarray(end + 4 + length);
  }
});

await request("initialize", { processId: process.pid, rootUri: null, capabilities: { textDocument: { hover: {}, completion: {} } } });
send({ method: "initialized", params: {} });
send({ method: "workspace/didChangeConfiguration", params: { settings: { yaml: { validate: true, hover: true, completion: true, schemaStore: { enable: false } } } } });
for (const file of process.argv.slice(2)) {
  const uri = pathToFileURL(file).href;
  const text = readFileSync(file, "utf8");
  const problems = new Promise((resolve) => published.set(uri, resolve));
  send({ method: "textDocument/didOpen", params: { textDocument: { uri, languageId: "yaml", version: 1, text } } });
  const answer = { file, problems: (await problems).map(({ message, range }) => `${range.start.line + 1}: ${message}`) };
  for (const [line, content] of text.split("\n").entries()) {
    const at = (mark) => ({ textDocument: { uri }, position: { line, character: content.slice(0, content.indexOf(mark)).trimEnd().length } });
    if (content.includes("#hover")) {
      const { textDocument, position } = at("#hover");
      const hover = await request("textDocument/hover", { textDocument, position: { line, character: position.character - 2 } });
      answer.hover = hover?.contents?.value ?? hover?.contents ?? null;
    }
    if (content.includes("#complete")) {
      const found = await request("textDocument/completion", at("#complete"));
      answer.completions = (found?.items ?? found ?? []).map((item) => item.label);
    }
  }
  console.log(JSON.stringify(answer));
}
child.kill();
process.exit(0);
