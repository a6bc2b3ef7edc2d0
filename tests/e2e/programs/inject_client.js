// inject_client.js PORT N: N requests on one kept connection, then N at once, each on its own.
'use strict';
const http = require('http');
const [port, n] = process.argv.slice(2).map(Number);
const agent = new http.Agent({keepAlive: true, maxSockets: 1});

const one = (path, options) => new Promise((resolve, reject) => {
  const request = http.request({port, host: '127.0.0.1', path, ...options}, (response) => {
    response.resume();
    response.on('end', resolve);
  });
  request.on('error', reject);
  if (options.method === 'POST') request.write('a body in chunks');
  request.end();
});

(async () => {
  for (let i = 0; i < n; i++) await one(`/ok/keep-${i}`, {agent, method: i % 2 ? 'POST' : 'GET'});
  await Promise.all([...Array(n).keys()].map((i) => one(`/ok/each-${i}`, {agent: false, method: 'GET'})));
  agent.destroy();
})();
