// @grpc/grpc-js, whose messages are bytes here, with `grpc_server.py` behind fusebox.
const assert = require('node:assert');
const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');

const [address, authority] = process.argv.slice(2);
const credentials = authority
  ? grpc.credentials.createSsl(fs.readFileSync(authority)) : grpc.credentials.createInsecure();
const policy = {
  maxAttempts: 4, initialBackoff: '0.01s', maxBackoff: '0.05s', backoffMultiplier: 2,
  retryableStatusCodes: ['UNAVAILABLE'],
};
const client = new grpc.Client(address, credentials, {
  'grpc.enable_http_proxy': 0,
  'grpc.max_receive_message_length': -1,
  'grpc.service_config': JSON.stringify({
    methodConfig: [{ name: [{ service: 'echo.Echo', method: 'Flaky' }], retryPolicy: policy }],
  }),
});
const same = bytes => bytes;
const path = name => `/echo.Echo/${name}`;

function metadata(fields) {
  const all = new grpc.Metadata();
  Object.entries(fields).forEach(([name, value]) => all.add(name, value));
  return all;
}

/** A call of one message: what it answers, with its trailers, or the failure. */
function unary(name, message, { fields = {}, seconds = 20, cancel } = {}) {
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + seconds * 1000 };
    let answer;
    const call = client.makeUnaryRequest(
      path(name), same, same, message, metadata(fields), options, (error, message) => {
        if (error) reject(error); else answer = message;
      });
    call.on('status', status => resolve({ answer, trailers: status.metadata }));
    if (cancel) cancel(call);
  });
}

/** All messages of a stream. */
function messages(stream) {
  return new Promise((resolve, reject) => {
    const all = [];
    stream.on('data', message => all.push(message));
    stream.on('error', reject);
    stream.on('end', () => resolve(all));
  });
}

const fails = call => call.then(() => assert.fail('it has not failed'), error => error);
const gone = async () => Number((await unary('Gone', Buffer.alloc(0))).answer);

async function until(condition) {
  for (let turn = 0; !await condition(); turn += 1) {
    assert.ok(turn < 500, 'in time');
    await new Promise(resolve => { setTimeout(resolve, 20); });
  }
}

(async () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
  for (const size of [0, 1, 100_000, 10 << 20]) {
    const said = Buffer.alloc(size, 'x');
    const { answer, trailers } = await unary('Say', said, {
      fields: { 'x-text': 'a, b', 'x-bytes-bin': bytes },
    });
    assert.ok(answer.equals(said));
    assert.deepEqual(trailers.get('x-text'), ['a, b']);
    assert.deepEqual(trailers.get('x-bytes-bin'), [bytes]);
  }

  const all = Array.from({ length: 1000 }, (_, n) => Buffer.from(`number ${n}`));
  const told = await Promise.all(all.map(message => unary('Say', message)));
  told.forEach(({ answer }, n) => assert.ok(answer.equals(all[n])));

  const counted = await messages(client.makeServerStreamRequest(
    path('Count'), same, same, Buffer.from('5000')));
  counted.forEach((message, n) => assert.equal(message.toString(), String(n)));
  assert.equal(counted.length, 5000);
  const sum = await new Promise((resolve, reject) => {
    const call = client.makeClientStreamRequest(path('Sum'), same, same, (error, answer) => {
      if (error) reject(error); else resolve(JSON.parse(answer));
    });
    all.forEach(message => call.write(message));
    call.end();
  });
  assert.deepEqual(sum, { messages: 1000, bytes: Buffer.concat(all).length });
  const chat = client.makeBidiStreamRequest(path('Chat'), same, same);
  all.forEach(message => chat.write(message));
  chat.end();
  assert.deepEqual(await messages(chat), all);

  const failure = await fails(unary('Fail', Buffer.alloc(0), {
    fields: { 'x-status': '9', 'x-message-bin': Buffer.from('100 %, à côté\n✓') },
  }));
  assert.deepEqual([failure.code, failure.details], [9, '100 %, à côté\n✓']);
  assert.match(failure.metadata.get('grpc-status-details-bin')[0].toString(), /ASKED_FOR/);

  const flaky = await unary('Flaky', Buffer.from(`js ${process.pid}`), {
    fields: { 'x-failures': '2' },
  });
  assert.deepEqual(JSON.parse(flaky.answer), { asked: 3, attempts: '2' });

  const left = Number((await unary('Left', Buffer.alloc(0), { seconds: 5 })).answer);
  assert.ok(left > 3000 && left <= 5000, String(left));
  const known = await gone();
  assert.equal((await fails(unary('Hang', Buffer.alloc(0), { seconds: 0.3 }))).code, 4);
  const cancelled = await fails(unary('Hang', Buffer.alloc(0), {
    cancel: call => setTimeout(() => call.cancel(), 100),
  }));
  assert.equal(cancelled.code, 1);
  await until(async () => await gone() === known + 2);
  client.close();
})();
