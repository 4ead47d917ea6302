// undici, which sends several requests at once on a connection.
const assert = require('node:assert');
const { Client } = require('undici');

(async () => {
  const client = new Client(process.argv[2], { pipelining: 10 });
  const get = async n => {
    const { statusCode, body } = await client.request({ path: `/asset/${n}`, method: 'GET' });
    return [statusCode, await body.text()];
  };
  const got = await Promise.all(Array.from({ length: 200 }, (_, n) => get(n)));
  got.forEach(answer => assert.equal(answer[0], 200));
  got.forEach((answer, n) => assert.equal(answer[1], String(n).repeat(5000)));
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
