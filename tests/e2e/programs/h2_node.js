// HTTP/2: a server, and a client that keeps a log. Over TLS with ALPN where TEST_TLS_CERTIFICATE and
// TEST_TLS_KEY, or TEST_TLS_CA, are in the environment.
//   h2_node.js server PORT
//   h2_node.js client PORT REQUESTS CONNECTIONS [large]      one JSON line per request
const http2 = require('http2');
const [, , mode, port, requests, connections, large] = process.argv;

const { TEST_TLS_CERTIFICATE, TEST_TLS_KEY, TEST_TLS_CA } = process.env;
const read = (path) => require('fs').readFileSync(path);

function serve() {
  const create = TEST_TLS_KEY
    ? (f) => http2.createSecureServer(
      { cert: read(TEST_TLS_CERTIFICATE), key: read(TEST_TLS_KEY), allowHTTP1: true }, f)
    : http2.createServer;
  create((request, response) => {
    let size = 0;
    request.on('data', (piece) => { size += piece.length; });
    request.on('end', () => {
      const [, what, number] = request.url.split('?')[0].split('/');
      if (what === 'status') response.writeHead(Number(number));
      if (what === 'trailers') response.addTrailers({ 'x-checksum': String(size) });
      response.end(what === 'size' ? 'x'.repeat(Number(number)) : `${request.method} ${size}`);
    });
  }).listen(Number(port), '127.0.0.1');
}

const shapes = [
  (i) => ['GET', `/ok/${i}`, 0], (i) => ['GET', `/size/2500/${i}?a=${i}`, 0],
  (i) => ['POST', `/echo/${i}`, 1234], (i) => ['GET', `/status/404/${i}`, 0],
  (i) => ['GET', `/status/500/${i}`, 0], (i) => ['POST', `/echo/${i}`, 2000],
  (i) => ['GET', `/size/0/${i}`, 0], (i) => ['PUT', `/trailers/1/${i}`, 10],
  (i) => ['HEAD', `/ok/${i}`, 0],
];

// Calls of these move many frames at once.
const largeShapes = [
  (i) => ['GET', `/size/100000/${i}`, 0], (i) => ['GET', `/size/1000000/${i}`, 0],
  (i) => ['POST', `/echo/${i}`, 100000], (i) => ['POST', `/echo/${i}`, 1000000],
  (i) => ['GET', `/ok/${i}`, 0],
];

function ask(session, number) {
  return new Promise((resolve, reject) => {
    const list = large ? largeShapes : shapes;
    const [method, path, sent] = list[number % list.length](number);
    const stream = session.request({ ':method': method, ':path': path }, { endStream: sent === 0 });
    let status = 0;
    let received = 0;
    stream.on('response', (headers) => { status = headers[':status']; });
    stream.on('data', (piece) => { received += piece.length; });
    stream.on('end', () => {
      console.log(JSON.stringify({ method, path: path.split('?')[0], status, sent, received }));
      resolve();
    });
    stream.on('error', reject);
    if (sent > 0) stream.end(Buffer.alloc(sent, 'e'));
  });
}

async function call() {
  await new Promise((resolve) => process.stdin.once('data', resolve)); // whoever observes it is ready
  process.stdin.destroy();
  const sessions = [];
  for (let c = 0; c < Number(connections); c++) {
    sessions.push(TEST_TLS_CA
      ? http2.connect(`https://127.0.0.1:${port}`, { ca: read(TEST_TLS_CA) })
      : http2.connect(`http://127.0.0.1:${port}`));
  }
  // Each connection has several in flight, in waves.
  const width = 5 * sessions.length;
  for (let from = 0; from < Number(requests); from += width) {
    const wave = [];
    for (let i = from; i < Math.min(from + width, Number(requests)); i++) {
      wave.push(ask(sessions[i % sessions.length], i));
    }
    await Promise.all(wave);
  }
  sessions.forEach((session) => session.close());
}

if (mode === 'server') serve();
else call();
