// node's http2.
const assert = require('node:assert');
const http2 = require('node:http2');

const session = http2.connect(process.argv[2]);

/** What comes of a request: its head, interim heads, text and trailers. */
function ask(path, { method = 'GET', headers = {}, parts = [], trailers } = {}) {
  return new Promise((resolve, reject) => {
    const options = { endStream: !parts.length && !trailers, waitForTrailers: Boolean(trailers) };
    const stream = session.request({ ':method': method, ':path': path, ...headers }, options);
    const told = { text: '', hints: [] };
    stream.setEncoding('utf8');
    stream.on('headers', head => told.hints.push(head));
    stream.on('response', head => { told.head = head; });
    stream.on('data', piece => { told.text += piece; });
    stream.on('trailers', fields => { told.trailers = fields; });
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    stream.on('error', reject);
    stream.on('close', () => resolve(told));
    parts.forEach(part => stream.write(part));
    if (!options.endStream) stream.end();
  });
}

/** Reads one piece of a stream that never ends, and leaves it. */
function leave(path) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ':path': path });
    stream.on('error', reject);
    stream.once('data', () => stream.close(http2.constants.NGHTTP2_CANCEL));
    stream.on('close', () => resolve());
  });
}

(async () => {
  const got = await Promise.all(Array.from({ length: 200 }, (_, n) => ask(`/asset/${n}`)));
  got.forEach(({ text }, n) => assert.equal(text, String(n).repeat(5000)));

  const parts = Array.from({ length: 200 }, (_, n) => 'x'.repeat(n * 100));
  const { length } = parts.join('');
  const posts = await Promise.all(Array.from({ length: 10 }, () => ask('/echo', {
    method: 'POST', parts, headers: { trailer: 'digest' }, trailers: { digest: 'abc' },
  })));
  posts.forEach(({ text }) => assert.equal(JSON.parse(text).length, length));
  posts.forEach(({ text }) => assert.deepEqual(JSON.parse(text).trailers, { digest: 'abc' }));

  assert.equal((await ask('/trailers', { headers: { te: 'trailers' } })).trailers.digest, 'abc');
  const hinted = await ask('/hints');
  assert.deepEqual(hinted.hints.map(head => head[':status']), [103]);
  assert.equal(hinted.text, 'hinted');
  assert.equal((await ask('/files/hello', { method: 'HEAD' })).head['content-length'], '6');
  assert.equal((await ask('/files/none')).head[':status'], 404);
  await leave('/endless');
  assert.equal((await ask('/files/hello')).text, 'hello\n');
  await new Promise((resolve, reject) => {
    session.ping(error => { if (error) reject(error); else resolve(); });
  });
  session.close();
})();
