// undici over HTTP/2.
const assert = require('node:assert');
const { Client, H2CClient } = require('undici');

(async () => {
  const url = process.argv[2];
  const client = url.startsWith('https:')
    ? new Client(url, { allowH2: true, pipelining: 50, maxConcurrentStreams: 50 })
    : new H2CClient(url);
  const get = async n => {
    const { statusCode, body } = await client.request({ path: `/asset/${n}`, method: 'GET' });
    return [statusCode, await body.text()];
  };
  const got = await Promise.all(Array.from({ length: 200 }, (_, n) => get(n)));
  got.forEach((answer, n) => assert.deepEqual(answer, [200, String(n).repeat(5000)]));
  const mixed = await Promise.all(Array.from({ length: 50 }, async (_, n) => {
    const method = ['GET', 'HEAD', 'PUT', 'DELETE'][n % 4];
    const body = method === 'PUT' ? 'x'.repeat(n * 1000) : null;
    const answer = await client.request({ path: `/echo/${n}`, method, body });
    const text = await answer.body.text();
    return method === 'HEAD' ? text === '' : JSON.parse(text).target === `/echo/${n}`;
  }));
  assert.ok(mixed.every(Boolean));
  await client.close();
})();
