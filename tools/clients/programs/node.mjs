// node's http, and its fetch.
import assert from 'node:assert';
import http from 'node:http';

const base = process.argv[2];
const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

/** Sends parts, after `100 Continue` if that is expected, and trailers. */
function ask(path, { method = 'GET', headers = {}, parts = [], trailers } = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request(base + path, { method, headers, agent });
    const send = () => {
      parts.forEach(part => request.write(part));
      if (trailers) request.addTrailers(trailers);
      request.end();
    };
    request.on('error', reject);
    request.on('response', response => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', piece => { text += piece; });
      response.on('error', reject);
      const port = request.socket.localPort;
      response.on('end', () => resolve({ response, text, port }));
    });
    if (headers.expect) request.once('continue', send); else send();
  });
}

const got = await Promise.all(Array.from({ length: 200 }, (_, n) => ask(`/asset/${n}`)));
got.forEach(({ text }, n) => assert.equal(text, String(n).repeat(5000)));
assert.equal(new Set(got.map(({ port }) => port)).size, 4, 'connections');

const parts = Array.from({ length: 100 }, (_, n) => 'x'.repeat(n * 100));
const length = parts.join('').length;
for (const expect of [undefined, '100-continue']) {
  const headers = expect ? { expect, 'transfer-encoding': 'chunked' } : {};
  const { text } = await ask('/echo', { method: 'POST', headers, parts });
  assert.equal(JSON.parse(text).length, length);
}

const { text } = await ask('/echo', {
  method: 'POST', headers: { trailer: 'digest' }, parts: ['a'], trailers: { digest: 'abc' },
});
assert.deepEqual(JSON.parse(text).trailers, { digest: 'abc' });
const { response } = await ask('/trailers');
assert.equal(response.trailers.digest, 'abc');

const early = await ask('/early', { method: 'POST', parts: ['x'.repeat(1000)] });
assert.equal(early.response.statusCode, 413);
assert.equal((await ask('/files/hello')).text, 'hello\n');
agent.destroy();

const stream = new ReadableStream({
  start(controller) {
    parts.forEach(part => controller.enqueue(new TextEncoder().encode(part)));
    controller.close();
  },
});
const told = await fetch(`${base}/echo`, { method: 'POST', body: stream, duplex: 'half' });
assert.equal((await told.json()).length, length);
