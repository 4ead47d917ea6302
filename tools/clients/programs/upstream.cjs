// node's http2 as upstream: hints, what it was asked, and trailers.
const { createServer } = require('http2');
const { createHash } = require('crypto');

const server = createServer();
server.on('stream', (stream, headers) => {
  const hash = createHash('sha256');
  stream.on('data', data => hash.update(data));
  stream.on('end', () => {
    const { ':method': method, ':authority': authority, ':path': target } = headers;
    stream.additionalHeaders({ ':status': 103, link: '</a>' });
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-after': '1' }));
    stream.end(JSON.stringify({ method, authority, target, sha256: hash.digest('hex') }));
  });
  stream.on('error', () => {});
});
server.listen(Number(process.argv[2]), '127.0.0.1');
