// What the settings of an entity do by themselves.

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const test = require("node:test");

const { admin, connect, nothing, receive, until, withQueue } = require("./broker.js");

// Who is still served in each status.
const STATUS = {
  Active: { sends: true, receives: true },
  SendDisabled: { sends: false, receives: true },
  ReceiveDisabled: { sends: true, receives: false },
  Disabled: { sends: false, receives: false },
};

for (const [status, { sends, receives }] of Object.entries(STATUS)) {
  test(`status ${status}`, () =>
    withQueue({}, async (first, queue) => {
      await first.createSender(queue).sendMessages({ body: "before" });
      await admin.updateQueue({ ...(await admin.getQueue(queue)), status });
      assert.equal((await admin.getQueue(queue)).status, status);
      const client = connect();
      const refused = { code: "MessagingEntityDisabled" };
      const send = client.createSender(queue).sendMessages({ body: "x" });
      await (sends ? send : assert.rejects(send, refused));
      const receiver = client.createReceiver(queue);
      const got = receive(receiver, 1);
      if (receives) await receiver.completeMessage((await got)[0]);
      else await assert.rejects(got, refused);
      await client.close();
    }));
}

test("an unused queue goes away, one that is deleted as well", () =>
  withQueue({ autoDeleteOnIdle: "PT1S" }, async (client, queue) => {
    await until(async () => !(await admin.queueExists(queue)));
    const code = "MessagingEntityNotFound";
    await assert.rejects(client.createSender(queue).sendMessages({ body: 1 }), { code });
  }));

test("the time to live of a queue is the most a message gets", () =>
  withQueue({ defaultMessageTimeToLive: "PT2S" }, async (client, queue) => {
    const receiver = client.createReceiver(queue);
    await client.createSender(queue).sendMessages({ body: "x", timeToLive: 86_400_000 });
    const [peeked] = await receiver.peekMessages(1);
    assert.equal(peeked.expiresAtUtc - peeked.enqueuedTimeUtc, 2_000);
    await until(async () => {
      const from = { fromSequenceNumber: peeked.sequenceNumber };
      return (await receiver.peekMessages(1, from)).length === 0;
    });
    assert.ok(Date.now() >= peeked.enqueuedTimeUtc.getTime() + 2_000);
    const dead = client.createReceiver(queue, { subQueueType: "deadLetter" });
    assert.deepEqual(await dead.peekMessages(1), []);
  }));

test("duplicates are accepted again when their window is over", () =>
  withQueue(
    { requiresDuplicateDetection: true, duplicateDetectionHistoryTimeWindow: "PT2S" },
    async (client, queue) => {
      const sender = client.createSender(queue);
      const receiver = client.createReceiver(queue);
      const begun = Date.now();
      await sender.sendMessages({ body: 0, messageId: "same" });
      const [message] = await receive(receiver, 1);
      await receiver.completeMessage(message);
      await until(async () => {
        await sender.sendMessages({ body: 1, messageId: "same" });
        return (await receiver.peekMessages(1, { fromSequenceNumber: message.sequenceNumber }))
          .length > 0;
      });
      assert.ok(Date.now() - begun >= 2_000);
    },
  ));

test("what fails too often is dead-lettered", () =>
  withQueue({ maxDeliveryCount: 2 }, async (client, queue) => {
    await client.createSender(queue).sendMessages({ body: "poison", messageId: "p" });
    const receiver = client.createReceiver(queue);
    for (const count of [0, 1]) {
      const [message] = await receive(receiver, 1);
      assert.equal(message.deliveryCount, count);
      await receiver.abandonMessage(message);
    }
    assert.ok(await nothing(receiver));
    const [dead] = await receive(client.createReceiver(queue, { subQueueType: "deadLetter" }), 1);
    assert.deepEqual([dead.messageId, dead.deadLetterReason], ["p", "MaxDeliveryCountExceeded"]);
  }));

test("what cannot be forwarded waits in the transfer dead-letter sub-queue", async () => {
  const target = `q-${randomUUID()}`;
  await admin.createQueue(target);
  await withQueue({ forwardTo: target }, async (client, source) => {
    await assert.rejects(client.createReceiver(source).receiveMessages(1));
    await admin.deleteQueue(target);
    await client.createSender(source).sendMessages({ body: "stuck" });
    const counts = await admin.getQueueRuntimeProperties(source);
    assert.equal(counts.transferDeadLetterMessageCount, 1);
    const letters = client.createReceiver(source, { subQueueType: "transferDeadLetter" });
    const [letter] = await receive(letters, 1);
    assert.equal(letter.deadLetterReason, "MessagingEntityNotFound");
    await letters.completeMessage(letter);
  });
});

test("sessions and receivers must fit", () =>
  withQueue({ requiresSession: true }, async (client, grouped) =>
    withQueue({}, async (_, plain) => {
      for (const wrong of [
        () => client.createSender(grouped).sendMessages({ body: "without a session" }),
        () => client.createReceiver(grouped).receiveMessages(1),
        () => client.acceptSession(plain, "s"),
      ]) {
        await assert.rejects(wrong(), { name: "ServiceBusError" });
      }
    })));
