// Faults made on purpose: what the client calls them, and that it gets over them by itself.

const assert = require("node:assert/strict");
const test = require("node:test");
const { ServiceBusClient } = require("@azure/service-bus");

const { admin, connect, connectionString, ready, receive, withQueue } = require("./broker.js");

// Rules name their queue, so that other tests go on; they are replaced as a whole.
async function fail(...rules) {
  const answer = await fetch(`http://${ready.operations}/faults`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(rules),
  });
  assert.ok(answer.ok, await answer.text());
}

// A send without an answer is tried again after the time-out.
function patient() {
  return connect({ retryOptions: { maxRetries: 10, retryDelayInMs: 50, timeoutInMs: 2_000 } });
}

test("a busy server is named as such, and tried again", () =>
  withQueue({}, async (client, entity) => {
    await fail({ kind: "serverBusy", entity, operation: "send", times: 1 });
    await assert.rejects(client.createSender(entity).sendMessages({ body: 1 }), {
      code: "ServiceBusy",
      retryable: true,
    });
    await fail({ kind: "serverBusy", entity, operation: "send", times: 1 });
    const other = patient();
    await other.createSender(entity).sendMessages({ body: 2 });
    const bodies = (await receive(client.createReceiver(entity), 1)).map(({ body }) => body);
    assert.deepEqual(bodies, [2]);
    await other.close();
  }));

for (const kind of ["detach", "drop"]) {
  test(`${kind}: the client comes back`, () =>
    withQueue({}, async (_, entity) => {
      const client = patient();
      const sender = client.createSender(entity);
      await sender.sendMessages({ body: 0 });
      await fail({ kind, entity, operation: "send", times: 1 });
      await sender.sendMessages({ body: 1 });
      const receiver = client.createReceiver(entity);
      for (const message of await receive(receiver, 2)) await receiver.completeMessage(message);
      await client.close();
    }));
}

test("a server that answers too late is a timeout", () =>
  withQueue({}, async (_, entity) => {
    const retryOptions = { maxRetries: 0, timeoutInMs: 1_000 };
    const client = new ServiceBusClient(connectionString(ready.address), { retryOptions });
    const sender = client.createSender(entity);
    await sender.sendMessages({ body: 0 });
    await fail({ kind: "slow", millis: 4_000, entity, operation: "send", times: 1 });
    await assert.rejects(sender.sendMessages({ body: 1 }), { code: "ServiceTimeout" });
    // After a time-out the SDK leaves its session open, and waits a minute for the end of it.
    client.close().catch(() => {});
  }));

test("what operators see", () =>
  withQueue({}, async (client, entity) => {
    const sender = client.createSender(entity);
    await sender.sendMessages([{ body: 1 }, { body: 2 }, { body: 3 }]);
    await sender.scheduleMessages({ body: 4 }, new Date(Date.now() + 600_000));
    const receiver = client.createReceiver(entity);
    const [first, second] = await receive(receiver, 2);
    await receiver.deadLetterMessage(first);
    const answer = (what) => fetch(`http://${ready.operations}/${what}`);
    const { queues } = await (await answer("status")).json();
    const { sizeBytes, oldestAgeMs, ...own } = queues.find(({ name }) => name === entity);
    assert.deepEqual(own, {
      name: entity,
      ...{ active: 2, locked: 1, deferred: 0, scheduled: 1, deadLetter: 1, transfer: 0 },
    });
    assert.ok(sizeBytes > 0 && oldestAgeMs >= 0);
    const counts = await admin.getQueueRuntimeProperties(entity);
    assert.deepEqual(
      [counts.activeMessageCount, counts.deadLetterMessageCount, counts.scheduledMessageCount],
      [2, 1, 1],
    );
    assert.ok(counts.sizeInBytes > 0);
    const metrics = await (await answer("metrics")).text();
    assert.match(metrics, new RegExp(`^bus_messages.entity="${entity}",state="dead_letter". 1$`, "m"));
    await receiver.completeMessage(second);
  }));
