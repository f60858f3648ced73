// Asks as told on standard input, by `http` with an agent that keeps connections. Prints the answers.
import { readFileSync } from "node:fs";
import http from "node:http";

const { url, requests, chunked } = JSON.parse(readFileSync(0, "utf8"));
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

function ask([path, body]) {
  const length = chunked ? {} : { "Content-Length": Buffer.byteLength(body) };
  const headers = { "Content-Type": "application/json", ...length };
  return new Promise((resolve, reject) => {
    const request = http.request(url + path, { method: "POST", agent, headers }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (more) => (text += more));
      response.on("end", () => resolve([response.statusCode, text]));
    });
    request.on("error", reject);
    request.write(body); // before the end: without a length it goes in chunks
    request.end();
  });
}

const answers = [];
for (const each of requests) answers.push(await ask(each));
answers.push(...(await Promise.all(requests.map(ask))));
agent.destroy();
console.log(JSON.stringify(answers));
