// The test paths of pyserver.py on Node's http, or https, without any package.
//   server.js PORT [--tls CERTIFICATE KEY]
'use strict';
const fs = require('fs');
const [, , port, tls, certificate, key] = process.argv;

function answer(request, response) {
  const parts = request.url.split('/');
  const reply = (status, body) => {
    response.writeHead(status, {'Content-Length': body.length});
    response.end(request.method === 'HEAD' ? undefined : body);
  };
  const n = Number(parts[2]);
  switch (parts[1]) {
    case 'size':
      return reply(200, Buffer.alloc(n, 'x'));
    case 'chunked':
      response.writeHead(200);
      for (let left = n; left > 0; left -= 700) response.write(Buffer.alloc(Math.min(700, left), 'c'));
      return response.end();
    case 'status':
      return reply(n, Buffer.alloc(0));
    case 'echo': {
      const chunks = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => reply(200, Buffer.concat(chunks)));
      return;
    }
    default:
      return reply(200, Buffer.from('ok ' + parts[parts.length - 1]));
  }
}

const server = tls === '--tls'
  ? require('https').createServer(
    { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, answer)
  : require('http').createServer(answer);
server.listen(Number(port), '127.0.0.1');
