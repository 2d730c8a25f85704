// Which messages a rule lets through, and what its action makes of them.

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const test = require("node:test");

const { admin, connect, nothing, receive, withTopic } = require("./broker.js");

// Three messages, and conditions in SQL with the bodies of those that each is true for.
const SQL = require("../filters.json");

const OTHERS = [
  [{ sqlExpression: "n > @low", sqlParameters: { "@low": 5 } }, "a"],
  [{ subject: "order" }, "a"],
  [{ subject: "ORDER" }, ""],
  [{ contentType: "text/plain" }, "c"],
  [{ correlationId: "c-1", to: "there", applicationProperties: { n: 10, flag: true } }, "a"],
  [{ applicationProperties: { n: "10" } }, ""],
];

test("filters of every kind", () =>
  withTopic({}, async (client, topic) => {
    const cases = [
      ...Object.entries(SQL.conditions).map(([sqlExpression, found]) => [{ sqlExpression }, found]),
      ...OTHERS,
    ];
    const subscription = (at) => `s${at}`;
    for (const [at, [filter]] of cases.entries()) {
      await admin.createSubscription(topic, subscription(at), {
        defaultRuleOptions: { name: "r", filter },
      });
    }
    await client.createSender(topic).sendMessages(SQL.messages);
    for (const [at, [filter, found]] of cases.entries()) {
      const receiver = client.createReceiver(topic, subscription(at));
      const bodies = (await receiver.peekMessages(10)).map((message) => message.body);
      assert.equal(bodies.join(""), found, JSON.stringify(filter));
      await receiver.close();
    }
    await assert.rejects(
      admin.createRule(topic, "s0", "bad", { sqlExpression: "n = " }),
      { statusCode: 400 },
    );
    await assert.rejects(
      admin.createRule(topic, "s0", "r", { sqlExpression: "1 = 1" }),
      { statusCode: 409 },
    );
  }));

test("actions change the copies of their subscription alone", () =>
  withTopic({}, async (client, topic) => {
    await admin.createSubscription(topic, "plain");
    await admin.createSubscription(topic, "changed", {
      defaultRuleOptions: {
        name: "express",
        filter: { sqlExpression: "express = TRUE" },
        action: {
          sqlExpression: "SET priority = n * 2 + 1; SET sys.Label = 'fast'; REMOVE express",
        },
      },
    });
    // A second match with an action makes a second copy.
    await admin.createRule(topic, "changed", "any", { sqlExpression: "1 = 1" }, {
      sqlExpression: "SET priority = 0",
    });
    const applicationProperties = { express: true, n: 4 };
    await client.createSender(topic).sendMessages({ body: "x", applicationProperties });
    const copies = await receive(client.createReceiver(topic, "changed"), 2);
    const properties = copies.map((copy) => [copy.subject, copy.applicationProperties]);
    properties.sort(([, one], [, other]) => other.priority - one.priority);
    assert.deepEqual(properties, [
      ["fast", { n: 4, priority: 9, RuleName: "express" }],
      [undefined, { express: true, n: 4, priority: 0, RuleName: "any" }],
    ]);
    const [plain] = await receive(client.createReceiver(topic, "plain"), 1);
    assert.deepEqual(plain.applicationProperties, applicationProperties);
  }));

test("copies are settled apart, and duplicates are dropped before", () =>
  withTopic({ requiresDuplicateDetection: true }, async (client, topic) => {
    for (const name of ["one", "other"]) await admin.createSubscription(topic, name);
    const sender = client.createSender(topic);
    for (const body of ["first", "again"]) await sender.sendMessages({ body, messageId: "same" });
    const one = client.createReceiver(topic, "one");
    const [message] = await receive(one, 1);
    await one.deadLetterMessage(message, { deadLetterReason: "Declined" });
    assert.ok(await nothing(one));
    const other = client.createReceiver(topic, "other");
    assert.deepEqual((await other.peekMessages(5)).map(({ body }) => body), ["first"]);
  }));

test("only the right end of a topic can be used", () =>
  withTopic({}, async (client, topic) => {
    await admin.createSubscription(topic, "s");
    await assert.rejects(client.createReceiver(topic).receiveMessages(1));
    const sender = client.createSender(`${topic}/Subscriptions/s`);
    await assert.rejects(sender.sendMessages({ body: 1 }));
    const missing = client.createReceiver(topic, randomUUID());
    await assert.rejects(missing.receiveMessages(1), { code: "MessagingEntityNotFound" });
  }));

test("a subscription with sessions keeps what has none as dead letters", () =>
  withTopic({}, async (client, topic) => {
    await admin.createSubscription(topic, "grouped", { requiresSession: true });
    const sender = client.createSender(topic);
    await sender.sendMessages([{ body: "in", sessionId: "s" }]);
    await sender.sendMessages({ body: "out" });
    const other = connect();
    const session = await other.acceptSession(topic, "grouped", "s");
    const [message] = await receive(session, 1);
    assert.equal(message.body, "in");
    const dead = client.createReceiver(topic, "grouped", { subQueueType: "deadLetter" });
    const [letter] = await receive(dead, 1);
    assert.deepEqual([letter.body, letter.deadLetterReason], ["out", "Session ID is null."]);
    await other.close();
  }));
