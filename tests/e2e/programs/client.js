// A client of Node's http, or https with TEST_TLS_CA: what client.py is for Python. Each line of its
// input is {"port":, "connections":, "requests": [[method, path, body or null], ...]}; it answers with
// [[method, path, status, sent, received, local port], ...].
'use strict';
const ca = process.env.TEST_TLS_CA;
const library = require(ca ? 'https' : 'http');
let agent;

function ask(port, [method, path, body]) {
  return new Promise((resolve, reject) => {
    const headers = body === null ? {} : { 'Content-Length': Buffer.byteLength(body) };
    const request = library.request({ host: '127.0.0.1', port, method, path, agent, headers }, (response) => {
      const local = response.socket.localPort;
      let received = 0;
      response.on('data', (piece) => { received += piece.length; });
      response.on('end', () => resolve(
        [method, path, response.statusCode, body === null ? 0 : Buffer.byteLength(body), received, local]));
    });
    request.on('error', reject);
    request.end(body === null ? undefined : body);
  });
}

async function work({ port, connections, requests }) {
  agent = agent || new library.Agent({
    keepAlive: true, maxSockets: connections, ca: ca ? require('fs').readFileSync(ca) : undefined });
  // As many at once as there are connections; whichever is free takes the next.
  let next = 0;
  const done = [];
  const one = async () => {
    while (next < requests.length) done.push(await ask(port, requests[next++]));
  };
  await Promise.all(Array.from({ length: connections }, one));
  console.log(JSON.stringify(done));
}

let text = '';
process.stdin.on('data', async (piece) => {
  text += piece;
  for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
    const line = text.slice(0, end);
    text = text.slice(end + 1);
    await work(JSON.parse(line));
  }
});
process.stdin.on('end', () => agent && agent.destroy());
