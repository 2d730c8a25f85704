// Sessions: one receiver each, in order, with a lock and a state.

const assert = require("node:assert/strict");
const test = require("node:test");

const { nothing, receive, until, withQueue } = require("./broker.js");

const SESSIONS = { requiresSession: true };

test("a named session comes in order to one receiver", () =>
  withQueue(SESSIONS, async (client, queue) => {
    const sender = client.createSender(queue);
    for (const [body, sessionId] of [["a1", "a"], ["b1", "b"], ["a2", "a"]]) {
      await sender.sendMessages({ body, sessionId });
    }
    const first = await client.acceptSession(queue, "a");
    assert.equal(first.sessionId, "a");
    assert.ok(first.sessionLockedUntilUtc > new Date());
    const messages = await receive(first, 2);
    assert.deepEqual(messages.map((message) => message.body), ["a1", "a2"]);
    await assert.rejects(client.acceptSession(queue, "a"), { code: "SessionCannotBeLocked" });
    for (const message of messages) await first.completeMessage(message);
    await first.close();
    const second = await client.acceptSession(queue, "a");
    assert.ok(await nothing(second));
    await second.close();
  }));

test("the next session is one that nobody has, or none in time", () =>
  withQueue(SESSIONS, async (client, queue) => {
    await client.createSender(queue).sendMessages([{ body: 1, sessionId: "only" }]);
    const first = await client.acceptNextSession(queue);
    assert.equal(first.sessionId, "only");
    await assert.rejects(client.acceptNextSession(queue, { maxAutoLockRenewalDurationInMs: 0 }));
    await first.close();
  }));

test("state, renewal, deferral and loss", () =>
  withQueue({ ...SESSIONS, lockDuration: "PT5S" }, async (client, queue) => {
    const sender = client.createSender(queue);
    await sender.sendMessages([{ body: 1, sessionId: "s" }, { body: 2, sessionId: "s" }]);
    const options = { maxAutoLockRenewalDurationInMs: 0 };
    const first = await client.acceptSession(queue, "s", options);
    assert.ok(!(await first.getSessionState()));
    await first.setSessionState({ step: 1 });
    const end = first.sessionLockedUntilUtc;
    await until(async () => {
      await first.renewSessionLock();
      return new Date() > end;
    });
    const [one, two] = await receive(first, 2);
    await first.deferMessage(one);
    await first.completeMessage(two);
    const [again] = await first.receiveDeferredMessages(one.sequenceNumber);
    assert.equal(again.body, 1);
    await first.abandonMessage(again);
    // Without a renewal, the session is lost.
    await until(async () => {
      try {
        await first.getSessionState();
        return false;
      } catch (error) {
        assert.equal(error.code, "SessionLockLost");
        return true;
      }
    });
    await first.close();
    const second = await client.acceptSession(queue, "s", options);
    assert.deepEqual(await second.getSessionState(), { step: 1 });
    await second.close();
  }));

test("a closed session counts no delivery, and whoever waits gets the next", () =>
  withQueue(SESSIONS, async (client, queue) => {
    const sender = client.createSender(queue);
    await sender.sendMessages({ body: "x", sessionId: "s" });
    for (let round = 0; round < 3; round += 1) {
      const session = await client.acceptSession(queue, "s");
      const [message] = await receive(session, 1);
      assert.equal(message.deliveryCount, 0);
      await session.close();
    }
    const held = await client.acceptSession(queue, "s");
    const waiting = client.acceptNextSession(queue);
    await sender.sendMessages({ body: "y", sessionId: "t" });
    assert.equal((await waiting).sessionId, "t");
    await held.close();
  }));

test("what was received under a lost session lock cannot be settled", () =>
  withQueue({ ...SESSIONS, lockDuration: "PT5S" }, async (client, queue) => {
    await client.createSender(queue).sendMessages({ body: "x", sessionId: "s" });
    const options = { maxAutoLockRenewalDurationInMs: 0 };
    const first = await client.acceptSession(queue, "s", options);
    const [message] = await receive(first, 1);
    let second;
    await until(async () => {
      try {
        second = await client.acceptSession(queue, "s", options);
        return true;
      } catch (error) {
        assert.equal(error.code, "SessionCannotBeLocked");
        return false;
      }
    });
    await assert.rejects(first.completeMessage(message), { code: "SessionLockLost" });
    const [again] = await receive(second, 1);
    assert.equal(again.deliveryCount, 1);
    await second.completeMessage(again);
  }));
