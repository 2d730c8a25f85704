// The administration client, unmodified.

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const test = require("node:test");
const { ServiceBusAdministrationClient } = require("@azure/service-bus");

const { admin, connect, connectionString, ready, receive, withQueue } = require("./broker.js");

test("queues are created, changed, listed and deleted", async () => {
  const name = `q-${randomUUID()}`;
  assert.equal(await admin.queueExists(name), false);
  const queue = await admin.createQueue(name, {
    lockDuration: "PT45S",
    maxDeliveryCount: 4,
    requiresSession: true,
    defaultMessageTimeToLive: "PT1H",
    userMetadata: "<&>",
    authorizationRules: [
      { claimType: "SharedAccessKey", accessRights: ["Send"], keyName: "k", primaryKey: "p",
        secondaryKey: "s" },
    ],
  });
  assert.equal(queue.lockDuration, "PT45S");
  assert.equal(queue.userMetadata, "<&>");
  assert.equal(queue.authorizationRules[0].keyName, "k");
  await assert.rejects(admin.createQueue(name), { statusCode: 409 });
  await admin.updateQueue({ ...queue, maxDeliveryCount: 7 });
  assert.equal((await admin.getQueue(name)).maxDeliveryCount, 7);
  const names = [];
  for await (const one of admin.listQueues()) names.push(one.name);
  assert.ok(names.includes(name));
  await admin.deleteQueue(name);
  assert.equal(await admin.queueExists(name), false);
  await assert.rejects(admin.getQueue(name), { code: "MessageEntityNotFoundError" });
});

test("more entities and rules than are on a page are all listed", async () => {
  const topic = `t-${randomUUID()}`;
  await admin.createTopic(topic);
  const names = Array.from({ length: 5 }, (_, n) => `s${n}`);
  for (const name of names) await admin.createSubscription(topic, name);
  await admin.createRule(topic, "s0", "r0");
  await admin.createRule(topic, "s0", "r1");
  const pages = async (iterator) => {
    const found = [];
    for await (const page of iterator) found.push(page.map((one) => one.subscriptionName ?? one.name));
    return found;
  };
  const subscriptions = await pages(admin.listSubscriptions(topic).byPage({ maxPageSize: 2 }));
  assert.deepEqual(subscriptions, [["s0", "s1"], ["s2", "s3"], ["s4"]]);
  const rules = await pages(admin.listRules(topic, "s0").byPage({ maxPageSize: 2 }));
  assert.deepEqual(rules, [["$Default", "r0"], ["r1"]]);
  await admin.deleteTopic(topic);
});

test("a name that cannot be is refused as such", async () => {
  await assert.rejects(admin.createQueue("a b"), { statusCode: 400 });
});

test("topics, subscriptions, rules and counts", async () => {
  const topic = `t-${randomUUID()}`;
  await admin.createTopic(topic);
  await admin.createSubscription(topic, "few", {
    defaultRuleOptions: {
      name: "first",
      filter: { sqlExpression: "n > @low", sqlParameters: { "@low": 5 } },
      action: { sqlExpression: "SET seen = TRUE" },
    },
  });
  await admin.createRule(topic, "few", "second", { subject: "order", applicationProperties: { a: 1 } });
  const rules = [];
  for await (const rule of admin.listRules(topic, "few")) rules.push(rule.name);
  assert.deepEqual(rules, ["first", "second"]);
  const found = await admin.getRule(topic, "few", "second");
  assert.equal(found.filter.subject, "order");
  assert.equal(found.filter.applicationProperties.a, 1);
  const client = connect();
  await client.createSender(topic).sendMessages([
    { body: "large", applicationProperties: { n: 9 } },
    { body: "small", applicationProperties: { n: 1 } },
    { body: "order", subject: "order", applicationProperties: { a: 1 } },
  ]);
  const receiver = client.createReceiver(topic, "few");
  const [large, order] = await receive(receiver, 2);
  assert.deepEqual([large.body, order.body], ["large", "order"]);
  assert.equal(large.applicationProperties.seen, true);
  assert.equal(large.applicationProperties.RuleName, "first");
  await receiver.deadLetterMessage(large);
  const counts = await admin.getSubscriptionRuntimeProperties(topic, "few");
  assert.deepEqual([counts.activeMessageCount, counts.deadLetterMessageCount], [1, 1]);
  assert.equal((await admin.getTopicRuntimeProperties(topic)).subscriptionCount, 1);
  const manager = client.createRuleManager(topic, "few");
  await manager.createRule("third", { sqlExpression: "1=0" });
  await manager.deleteRule("second");
  const managed = [];
  for await (const rule of manager.listRules()) managed.push(rule.name);
  assert.deepEqual(managed, ["first", "third"]);
  await client.close();
  await admin.deleteTopic(topic);
  assert.equal(await admin.topicExists(topic), false);
});

test("messages and dead letters are forwarded", () =>
  withQueue({}, (client, dead) =>
    withQueue({ forwardDeadLetteredMessagesTo: dead }, (_, target) =>
      withQueue({ forwardTo: target }, async (_, source) => {
        assert.match((await admin.getQueue(source)).forwardTo, new RegExp(`${target}$`));
        await client.createSender(source).sendMessages({ body: "x" });
        const receiver = client.createReceiver(target);
        const [message] = await receive(receiver, 1);
        await receiver.deadLetterMessage(message, { deadLetterReason: "Test" });
        const [letter] = await receive(client.createReceiver(dead), 1);
        assert.equal(letter.deadLetterReason, "Test");
        assert.equal(letter.deadLetterSource, target);
      }))));

test("a wrong key is refused", async () => {
  const text = connectionString(ready.adminAddress, { key: "wrong" });
  const other = new ServiceBusAdministrationClient(text);
  await assert.rejects(other.getNamespaceProperties(), { statusCode: 401 });
  assert.ok((await admin.getNamespaceProperties()).name);
});
