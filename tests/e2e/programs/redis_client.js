// node-redis under a workload that it logs: redis_client.js PORT GO LOG. Waits for the file GO; LOG gets
// a line of JSON per command asked for: {args, error}.
"use strict";
const fs = require("fs");
const { createClient } = require("redis");

const [port, go, log] = process.argv.slice(2);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const asked = [];

async function ask(client, args) {
  const entry = { args, error: null };
  asked.push(entry);
  try {
    await client.sendCommand(args);
  } catch (error) {
    entry.error = error.message.split(" ")[0];
  }
}

async function main() {
  while (!fs.existsSync(go)) await sleep(20);
  const client = createClient({ url: `redis://127.0.0.1:${port}` });
  client.on("error", () => {});
  await client.connect();
  await ask(client, ["SET", "k", "v"]);
  await ask(client, ["LPUSH", "k", "x"]);
  for (let round = 0; round < 20; ++round) {
    const all = [];
    for (let i = 0; i < 25; ++i) {
      const key = `k${i % 5}`;
      all.push(ask(client, [["SET", key, "v".repeat(i * 100)], ["GET", key], ["LPUSH", key, "x"],
        ["INCR", `n${i}`], ["HGETALL", `h${i}`]][(i + round) % 5]));
    }
    await Promise.all(all);
  }
  await client.disconnect();
  fs.writeFileSync(log, asked.map((a) => JSON.stringify(a) + "\n").join(""));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
