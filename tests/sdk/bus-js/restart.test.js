// What was acknowledged is there after SIGKILL and after a clean stop; what was completed is not.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const test = require("node:test");
const { ServiceBusAdministrationClient, ServiceBusClient } = require("@azure/service-bus");

const { connectionString, nothing, ready, receive, retryOptions, until } = require("./broker.js");
const { start } = require("./start.js");

// As the official emulator takes it.
const CONFIG = {
  UserConfig: {
    Namespaces: [
      {
        Name: "sbemulatorns",
        Queues: [
          { Name: "jobs", Properties: { MaxDeliveryCount: 5, LockDuration: "PT5S" } },
          {
            Name: "once",
            Properties: {
              RequiresDuplicateDetection: true,
              DuplicateDetectionHistoryTimeWindow: "PT5M",
            },
          },
          { Name: "grouped", Properties: { RequiresSession: true } },
        ],
        Topics: [
          {
            Name: "events",
            Subscriptions: [
              {
                Name: "few",
                Rules: [
                  {
                    Name: "large",
                    Properties: { FilterType: "Sql", SqlFilter: { SqlExpression: "n > 5" } },
                  },
                ],
              },
            ],
          },
        ],
      },
    ],
    Logging: { Type: "Console" },
  },
};

function clients({ said }) {
  const client = new ServiceBusClient(connectionString(said.address), { retryOptions });
  const admin = new ServiceBusAdministrationClient(connectionString(said.adminAddress));
  return { client, admin };
}

const bodies = (messages) => messages.map(({ body }) => body);

// What every kind of change leaves behind; the broker is killed in the middle of a lock.
async function leave({ client, admin }) {
  const sender = client.createSender("jobs");
  await sender.sendMessages(["done", "again", "later", "dead", "locked"].map((body) => ({ body })));
  const receiver = client.createReceiver("jobs");
  const [done, again, later, dead, locked] = await receive(receiver, 5);
  await receiver.completeMessage(done);
  await receiver.abandonMessage(again, { tried: 1 });
  await receiver.deferMessage(later);
  await receiver.deadLetterMessage(dead, { deadLetterReason: "Test" });
  const due = new Date(Date.now() + 600_000);
  const [kept, cancelled] = await sender.scheduleMessages([{ body: "due" }, { body: "not" }], due);
  await sender.cancelScheduledMessages(cancelled);
  await client.createSender("once").sendMessages({ body: "first", messageId: "same" });
  await client.createSender("events").sendMessages([
    { body: "small", applicationProperties: { n: 1 } },
    { body: "large", applicationProperties: { n: 9 } },
  ]);
  await client.createSender("grouped").sendMessages({ body: "member", sessionId: "s" });
  const session = await client.acceptSession("grouped", "s");
  await session.setSessionState({ step: 2 });
  await admin.createQueue("made", { maxDeliveryCount: 7, status: "SendDisabled" });
  await admin.createRule("events", "few", "also", { subject: "also" });
  return { later: later.sequenceNumber, kept, locked };
}

async function find({ client, admin }, { later, kept, locked }, deliveries) {
  const receiver = client.createReceiver("jobs");
  // The lock ends by itself.
  let messages = [];
  await until(async () => {
    messages.push(...(await receiver.receiveMessages(5, { maxWaitTimeInMs: 500 })));
    return messages.length >= 2;
  });
  console.log(deliveries, messages.map((m) => [m.body, m.state, m.deliveryCount, String(m.sequenceNumber), m.applicationProperties]));
  messages.sort((one, other) => one.body.localeCompare(other.body));
  assert.deepEqual(bodies(messages), ["again", "locked"]);
  assert.equal(messages[0].applicationProperties.tried, 1);
  for (const { body, deliveryCount } of messages) assert.equal(deliveryCount, deliveries, body);
  await assert.rejects(receiver.completeMessage(locked), { code: "MessageLockLost" });
  for (const message of messages) await receiver.abandonMessage(message);
  const [deferred] = await receiver.receiveDeferredMessages(later);
  assert.deepEqual([deferred.body, deferred.deliveryCount], ["later", deliveries]);
  await receiver.abandonMessage(deferred);
  const [due] = await receiver.peekMessages(1, { fromSequenceNumber: kept });
  assert.deepEqual([due.body, due.state], ["due", "scheduled"]);
  const dead = client.createReceiver("jobs", { subQueueType: "deadLetter" });
  const letters = await dead.peekMessages(5);
  assert.deepEqual(letters.map((one) => [one.body, one.deadLetterReason]), [["dead", "Test"]]);

  await client.createSender("once").sendMessages({ body: "second", messageId: "same" });
  assert.deepEqual(bodies(await client.createReceiver("once").peekMessages(5)), ["first"]);
  assert.deepEqual(bodies(await client.createReceiver("events", "few").peekMessages(5)), ["large"]);
  const session = await client.acceptSession("grouped", "s");
  assert.deepEqual(await session.getSessionState(), { step: 2 });
  assert.deepEqual(bodies(await session.peekMessages(5)), ["member"]);
  await session.close();
  const made = await admin.getQueue("made");
  assert.deepEqual([made.maxDeliveryCount, made.status], [7, "SendDisabled"]);
  const rules = [];
  for await (const rule of admin.listRules("events", "few")) rules.push(rule.name);
  assert.deepEqual(rules.sort(), ["also", "large"]);
  assert.ok(await nothing(client.createReceiver("once", { subQueueType: "deadLetter" })));
}

test("everything acknowledged survives SIGKILL and a clean stop", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bus-js-restart-"));
  const options = {
    directory,
    topology: CONFIG,
    // The clients trust it already.
    certificate: path.dirname(ready.certificateAuthority),
    further: ["--data", path.join(directory, "data")],
  };
  let left;
  try {
    // Killed, stopped (which writes a snapshot), and looked at once more.
    for (const [at, signal] of ["SIGKILL", "SIGTERM", "SIGKILL"].entries()) {
      const started = await start(options);
      const used = clients(started);
      try {
        if (at === 0) left = await leave(used);
        else await find(used, left, at);
        started.broker.kill(signal);
        assert.equal(await started.ended, signal === "SIGTERM" ? 0 : signal);
      } finally {
        started.broker.kill("SIGKILL");
        // A client whose broker is gone may not come to its end.
        used.client.close().catch(() => {});
      }
    }
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
});
