// node's ws, which checks each frame of its peer.
const assert = require('node:assert');
const crypto = require('node:crypto');
const { once } = require('node:events');
const { WebSocket, createWebSocketStream } = require('ws');

const [base, refused] = process.argv.slice(2);

async function open(path, options) {
  const peer = new WebSocket(base + path, options);
  await once(peer, 'open');
  return peer;
}

async function answer(peer) {
  const [data, isBinary] = await once(peer, 'message');
  return isBinary ? data : data.toString();
}

async function main() {
  if (refused) {
    const peer = new WebSocket(base);
    const [error] = await once(peer, 'error');
    assert.match(error.message, /Unexpected server response: 200/);
    return;
  }
  for (const perMessageDeflate of [true, false]) {
    const peer = await open('/echo', { perMessageDeflate, maxPayload: 1 << 28 });
    for (const size of [0, 1, 125, 126, 65535, 65536, 5 << 20]) {
      const data = crypto.randomBytes(size);
      peer.send(data);
      assert.ok(data.equals(await answer(peer)), `${size}`);
      peer.send(data.toString('hex'));
      assert.equal(await answer(peer), data.toString('hex'));
    }
    peer.send('in ', { fin: false });
    peer.send('fragments', { fin: true });
    assert.equal(await answer(peer), 'in fragments');
    peer.ping('are you there?');
    assert.equal((await once(peer, 'pong'))[0].toString(), 'are you there?');
    peer.close(4000, 'done');
    const [code, reason] = await once(peer, 'close');
    assert.deepEqual([code, reason.toString()], [4000, 'done']);
  }

  const closing = await open('/close/4003');
  closing.send('close');
  const [code, reason] = await once(closing, 'close');
  assert.deepEqual([code, reason.toString()], [4003, 'as asked']);

  // As much as the peer takes, and no faster.
  const peer = await open('/echo', { perMessageDeflate: false });
  const stream = createWebSocketStream(peer);
  const sent = crypto.createHash('sha256');
  const got = crypto.createHash('sha256');
  const total = 30 << 20;
  const receiving = (async () => {
    let left = total;
    for await (const data of stream) {
      got.update(data);
      left -= data.length;
      if (!left) return;
    }
  })();
  for (let left = total; left; left -= 1 << 18) {
    const data = crypto.randomBytes(1 << 18);
    sent.update(data);
    if (!stream.write(data)) await once(stream, 'drain');
  }
  await receiving;
  assert.equal(got.digest('hex'), sent.digest('hex'));
  peer.close();
}

main().then(() => process.exit(0), error => {
  console.error(error);
  process.exit(1);
});
