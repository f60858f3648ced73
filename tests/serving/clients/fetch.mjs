// Asks as told on standard input, by `fetch`: one by one, then all at once. Prints the answers.
import { readFileSync } from "node:fs";

const { url, requests, chunked } = JSON.parse(readFileSync(0, "utf8"));

async function ask([path, body]) {
  // A stream has no length that is known before: it goes in chunks.
  const content = chunked ? { body: new Blob([body]).stream(), duplex: "half" } : { body };
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(url + path, { method: "POST", headers, ...content });
  return [response.status, await response.text()];
}

const answers = [];
for (const each of requests) answers.push(await ask(each));
answers.push(...(await Promise.all(requests.map(ask))));
console.log(JSON.stringify(answers));
