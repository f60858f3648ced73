// The web provider in Node: what it asks and answers, and what it keeps when the workspace changes.
import { OFREPWebProvider } from "@openfeature/ofrep-web-provider";
import { OpenFeature } from "@openfeature/web-sdk";

const [url, token] = process.argv.slice(2);
const statuses = [];
let away = false;

const provider = () =>
  new OFREPWebProvider({
    baseUrl: url,
    cacheMode: "disabled",
    pollInterval: 50,
    headers: [["Authorization", `Bearer ${token}`]],
    fetchImplementation: async (...asked) => {
      if (away) throw new TypeError("fetch failed");
      const answer = await fetch(...asked);
      statuses.push(answer.status);
      return answer;
    },
  });
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

await OpenFeature.setProviderAndWait(provider(), { targetingKey: "pia", workspace: "piano" });
const client = OpenFeature.getClient();
const plan = () => client.getStringValue("plan", "");
const drawn = () => ({
  plan: plan(),
  avatar: client.getBooleanValue("video_avatar", false),
  unlockedBy: client.getBooleanDetails("video_avatar", false).flagMetadata.unlocked_by,
});
const told = { first: drawn() };
while (statuses.length < 4) await sleep(10);
told.statuses = statuses.slice(0, 4);

await OpenFeature.setContext({ targetingKey: "sam", workspace: "solo" });
told.switched = drawn();

const switching = OpenFeature.setContext({ targetingKey: "pia", workspace: "piano" });
told.at_once = drawn();
await switching;
await OpenFeature.setContext({ targetingKey: "sam", workspace: "solo" });
away = true;
await OpenFeature.setContext({ targetingKey: "pia", workspace: "piano" });
await sleep(150);
told.away = drawn();

const beginning = OpenFeature.setProviderAndWait(provider(), { targetingKey: "pia", workspace: "piano" });
told.anew = { at_once: plan() };
await beginning.catch(() => undefined);
told.anew.away = plan();
console.log(JSON.stringify(told));
process.exit(0);
