// Sending, receiving and settling, and what each refusal is called.

const assert = require("node:assert/strict");
const test = require("node:test");

const { admin, connect, nothing, receive, until, withQueue } = require("./broker.js");

test("a message keeps its properties", () =>
  withQueue({}, async (client, queue) => {
    const sent = {
      body: { a: [1, "x", null] },
      messageId: "m-1",
      correlationId: "c-1",
      subject: "s",
      to: "t",
      replyTo: "r",
      contentType: "application/json",
      partitionKey: "p",
      timeToLive: 60_000,
      applicationProperties: { text: "x", number: 7, fraction: 1.5, flag: true },
    };
    await client.createSender(queue).sendMessages(sent);
    const receiver = client.createReceiver(queue);
    const [message] = await receive(receiver, 1);
    for (const [name, value] of Object.entries(sent)) assert.deepEqual(message[name], value, name);
    assert.equal(message.deliveryCount, 0);
    assert.ok(message.lockedUntilUtc > message.enqueuedTimeUtc);
    assert.equal(message.expiresAtUtc - message.enqueuedTimeUtc, 60_000);
    await receiver.completeMessage(message);
    assert.ok(await nothing(receiver));
  }));

test("a batch comes in order, and receiveAndDelete leaves nothing", () =>
  withQueue({}, async (client, queue) => {
    const sender = client.createSender(queue);
    const batch = await sender.createMessageBatch();
    assert.equal(batch.maxSizeInBytes, 1_048_576);
    for (let n = 0; n < 100; n += 1) assert.ok(batch.tryAddMessage({ body: n }));
    await sender.sendMessages(batch);
    const receiver = client.createReceiver(queue, { receiveMode: "receiveAndDelete" });
    const messages = await receive(receiver, 100);
    assert.deepEqual(messages.map((message) => message.body), [...Array(100).keys()]);
    assert.deepEqual(await receiver.peekMessages(1), []);
  }));

test("abandon, defer and dead-letter change what they are told to", () =>
  withQueue({ maxDeliveryCount: 5 }, async (client, queue) => {
    await client.createSender(queue).sendMessages({ body: "x", applicationProperties: { n: 1 } });
    const receiver = client.createReceiver(queue);
    const [first] = await receive(receiver, 1);
    await receiver.abandonMessage(first, { n: 2 });
    const [second] = await receive(receiver, 1);
    assert.equal(second.deliveryCount, 1);
    assert.equal(second.applicationProperties.n, 2);
    await receiver.deferMessage(second, { n: 3 });
    assert.ok(await nothing(receiver));
    const [third] = await receiver.receiveDeferredMessages(second.sequenceNumber);
    assert.equal(third.applicationProperties.n, 3);
    await receiver.deadLetterMessage(third, {
      deadLetterReason: "Test",
      deadLetterErrorDescription: "on purpose",
      extra: "kept",
    });
    const dead = client.createReceiver(queue, { subQueueType: "deadLetter" });
    const [message] = await receive(dead, 1);
    assert.equal(message.deadLetterReason, "Test");
    assert.equal(message.deadLetterErrorDescription, "on purpose");
    assert.equal(message.applicationProperties.extra, "kept");
    await dead.completeMessage(message);
    await assert.rejects(
      receiver.receiveDeferredMessages(second.sequenceNumber),
      { code: "MessageNotFound" },
    );
  }));

test("a lost lock is named as such, a renewed one lasts", () =>
  withQueue({ lockDuration: "PT5S" }, async (client, queue) => {
    await client.createSender(queue).sendMessages({ body: "x" });
    // Left to itself, the SDK renews the lock.
    const receiver = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 0 });
    const [first] = await receive(receiver, 1);
    const end = first.lockedUntilUtc;
    await until(async () => {
      await receiver.renewMessageLock(first);
      return new Date() > end;
    });
    const [again] = await receive(client.createReceiver(queue), 1);
    assert.equal(again.deliveryCount, 1);
    await assert.rejects(receiver.completeMessage(first), { code: "MessageLockLost" });
    await assert.rejects(receiver.renewMessageLock(first), { code: "MessageLockLost" });
  }));

test("scheduled messages wait, cancelled ones never come", () =>
  withQueue({}, async (client, queue) => {
    const sender = client.createSender(queue);
    const receiver = client.createReceiver(queue);
    const soon = new Date(Date.now() + 1_500);
    const [number] = await sender.scheduleMessages({ body: "soon" }, soon);
    const later = new Date(Date.now() + 600_000);
    const numbers = await sender.scheduleMessages([{ body: "a" }, { body: "b" }], later);
    await sender.cancelScheduledMessages(numbers);
    const [peeked] = await receiver.peekMessages(5);
    assert.equal(peeked.state, "scheduled");
    const [message] = await receive(receiver, 1);
    assert.ok(Date.now() >= soon.getTime() - 5);
    assert.equal(String(message.enqueuedSequenceNumber), String(number));
    await receiver.completeMessage(message);
    assert.deepEqual(await receiver.peekMessages(5), []);
  }));

test("a subscriber is called for every message, several at once", () =>
  withQueue({}, async (client, queue) => {
    const seen = new Set();
    const receiver = client.createReceiver(queue);
    const subscription = receiver.subscribe(
      {
        processMessage: async (message) => void seen.add(message.body),
        processError: async ({ error }) => assert.fail(error),
      },
      { maxConcurrentCalls: 4 },
    );
    const sender = client.createSender(queue);
    for (let n = 0; n < 30; n += 1) await sender.sendMessages({ body: n });
    await until(() => seen.size === 30);
    await subscription.close();
    assert.deepEqual(await receiver.peekMessages(1), []);
  }));

test("duplicates are dropped", () =>
  withQueue({ requiresDuplicateDetection: true }, async (client, queue) => {
    const sender = client.createSender(queue);
    await sender.sendMessages([{ body: 1, messageId: "same" }, { body: 2, messageId: "same" }]);
    await sender.sendMessages({ body: 3, messageId: "same" });
    const bodies = (await client.createReceiver(queue).peekMessages(5)).map((one) => one.body);
    assert.deepEqual(bodies, [1]);
  }));

test("what is not there or too large has its own error", () =>
  withQueue({}, async (client, queue) => {
    await assert.rejects(client.createSender("not-there").sendMessages({ body: 1 }), {
      code: "MessagingEntityNotFound",
    });
    const sender = client.createSender(queue);
    await assert.rejects(sender.sendMessages({ body: Buffer.alloc(1_100_000) }), {
      code: "MessageSizeExceeded",
    });
    await sender.sendMessages({ body: "still alive" });
  }));

test("a full queue says so", () =>
  withQueue({ maxSizeInMegabytes: 1 }, async (client, queue) => {
    const sender = client.createSender(queue);
    await sender.sendMessages({ body: Buffer.alloc(600_000) });
    await assert.rejects(sender.sendMessages({ body: Buffer.alloc(600_000) }), {
      code: "QuotaExceeded",
    });
  }));

test("expired messages are dead-lettered", () =>
  withQueue({ deadLetteringOnMessageExpiration: true }, async (client, queue) => {
    await client.createSender(queue).sendMessages({ body: "x", timeToLive: 200 });
    const dead = client.createReceiver(queue, { subQueueType: "deadLetter" });
    const [message] = await receive(dead, 1);
    assert.equal(message.deadLetterReason, "TTLExpiredException");
    await dead.completeMessage(message);
  }));

test("a disabled queue refuses", () =>
  withQueue({ status: "Disabled" }, async (client, queue) => {
    await assert.rejects(client.createSender(queue).sendMessages({ body: 1 }), {
      code: "MessagingEntityDisabled",
    });
    const settings = await admin.getQueue(queue);
    await admin.updateQueue({ ...settings, status: "Active" });
    const other = connect();
    await other.createSender(queue).sendMessages({ body: 1 });
    await other.close();
  }));

// What another connection may do with nothing but the message and its lock token.
const ELSEWHERE = {
  complete: {
    settle: (receiver, message) => receiver.completeMessage(message),
    check: async (receiver) => assert.ok(await nothing(receiver)),
  },
  abandon: {
    settle: (receiver, message) => receiver.abandonMessage(message, { n: 2 }),
    check: async (receiver) => {
      const [again] = await receive(receiver, 1);
      assert.deepEqual([again.deliveryCount, again.applicationProperties.n], [1, 2]);
    },
  },
  defer: {
    settle: (receiver, message) => receiver.deferMessage(message),
    check: async (receiver, message) => {
      assert.ok(await nothing(receiver));
      const [deferred] = await receiver.receiveDeferredMessages(message.sequenceNumber);
      assert.equal(deferred.body, "handed over");
    },
  },
  "dead-letter": {
    settle: (receiver, message) =>
      receiver.deadLetterMessage(message, { deadLetterReason: "Elsewhere" }),
    check: async (receiver, _, dead) => {
      assert.ok(await nothing(receiver));
      const [letter] = await receive(dead, 1);
      assert.equal(letter.deadLetterReason, "Elsewhere");
    },
  },
};

for (const [name, { settle, check }] of Object.entries(ELSEWHERE)) {
  test(`${name} by lock token from another connection`, () =>
    withQueue({}, async (client, queue) => {
      await client.createSender(queue).sendMessages({ body: "handed over" });
      const receiver = client.createReceiver(queue);
      const [message] = await receive(receiver, 1);
      const other = connect();
      const elsewhere = other.createReceiver(queue);
      await settle(elsewhere, message);
      const lost = { code: "MessageLockLost" };
      await assert.rejects(settle(elsewhere, message), lost);
      await assert.rejects(receiver.completeMessage(message), lost);
      await check(receiver, message, client.createReceiver(queue, { subQueueType: "deadLetter" }));
      await other.close();
    }));
}

test("credit that is drained takes no message with it", () =>
  withQueue({}, async (client, queue) => {
    const sender = client.createSender(queue);
    const first = client.createReceiver(queue);
    await sender.sendMessages({ body: 1 });
    // Ten were asked for; the credit of nine is taken back.
    assert.equal((await first.receiveMessages(10, { maxWaitTimeInMs: 5_000 })).length, 1);
    assert.ok(await nothing(first));
    await sender.sendMessages({ body: 2 });
    const [message] = await receive(client.createReceiver(queue), 1);
    assert.deepEqual([message.body, message.deliveryCount], [2, 0]);
  }));

test("peeking goes on by number and locks nothing", () =>
  withQueue({}, async (client, queue) => {
    await client.createSender(queue).sendMessages([...Array(10).keys()].map((body) => ({ body })));
    const receiver = client.createReceiver(queue);
    const bodies = (messages) => messages.map(({ body }) => body);
    const first = await receiver.peekMessages(4);
    assert.deepEqual(bodies(first), [0, 1, 2, 3]);
    const fromSequenceNumber = first[3].sequenceNumber.add(1);
    const rest = await receiver.peekMessages(20, { fromSequenceNumber });
    assert.deepEqual(bodies(rest), [4, 5, 6, 7, 8, 9]);
    const messages = await receive(receiver, 10);
    assert.ok(messages.every(({ deliveryCount }) => deliveryCount === 0));
  }));

test("a message may say itself when it is due, and a batch when it is full", () =>
  withQueue({}, async (client, queue) => {
    const sender = client.createSender(queue);
    const due = new Date(Date.now() + 1_500);
    await sender.sendMessages({ body: "later", scheduledEnqueueTimeUtc: due });
    await receive(client.createReceiver(queue, { receiveMode: "receiveAndDelete" }), 1);
    assert.ok(Date.now() >= due.getTime() - 5);
    const batch = await sender.createMessageBatch();
    assert.ok(batch.tryAddMessage({ body: Buffer.alloc(1_000_000) }));
    assert.equal(batch.tryAddMessage({ body: Buffer.alloc(100_000) }), false);
    await sender.sendMessages(batch);
  }));
