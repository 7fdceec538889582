// An OpenID Connect issuer, made of `jose`. Usage: issuer.mjs PORT
//
// Publishes a discovery document and a key set. Tests control it by POST with JSON:
//   /control/token {key, claims, ...header}  a token signed with this key, made where it is new
//   /control/keys [NAMES]                    the keys that are published
//   /control/away true|false                 whether connections to the published paths are cut
//   /control/asked                           how often the key set was asked for
// The name of a key says of which kind it is: rsa-..., ec-... or ed-...
import { createServer } from "node:http";
import { SignJWT, exportJWK, generateKeyPair } from "jose";

const port = Number(process.argv[2]);
const url = `http://127.0.0.1:${port}`;
const algorithms = { rsa: "RS256", ec: "ES256", ed: "EdDSA" };
const keys = new Map();
let published = [];
let away = false;
let asked = 0;

function key(name) {
  // The promise is kept, so that a key is made once, however many ask for it at the same time.
  if (!keys.has(name)) keys.set(name, made(name));
  return keys.get(name);
}

async function made(name) {
  const alg = algorithms[name.split("-")[0]];
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { alg, privateKey, jwk: { ...(await exportJWK(publicKey)), kid: name, alg, use: "sig" } };
}

const control = {
  async token({ key: name, claims, header }) {
    const { alg, privateKey } = await key(name);
    const now = Math.floor(Date.now() / 1000);
    const all = { iss: url, aud: "headgate", exp: now + 300, ...claims };
    return await new SignJWT(all).setProtectedHeader({ alg, kid: name, ...header }).sign(privateKey);
  },
  async keys(names) {
    published = names;
    return "";
  },
  async away(is) {
    away = is;
    return "";
  },
  async asked() {
    return String(asked);
  },
};

const server = createServer((request, response) => {
  if (away && request.method === "GET") return request.socket.destroy();
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", async () => {
    const send = (value) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));
    if (request.url === "/.well-known/openid-configuration") return send({ issuer: url, jwks_uri: `${url}/keys` });
    if (request.url === "/keys") {
      asked += 1;
      return send({ keys: await Promise.all(published.map(async (name) => (await key(name)).jwk)) });
    }
    const answer = await control[request.url.replace("/control/", "")](JSON.parse(Buffer.concat(chunks).toString() || "null"));
    response.writeHead(200).end(answer);
  });
});
server.listen(port, "127.0.0.1", () => console.log("ready"));
