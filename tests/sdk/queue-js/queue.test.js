/** The official JavaScript SDK against the stand-in, and unchanged against Azurite. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";

import {
  AnonymousCredential,
  generateAccountSASQueryParameters,
  generateQueueSASQueryParameters,
  AccountSASPermissions,
  QueueClient,
  QueueSASPermissions,
  QueueServiceClient,
  StorageSharedKeyCredential,
} from "@azure/storage-queue";

import { ACCOUNT, IS_AZURITE, KEY, ONCE, account, start, until } from "./service.js";

const TEXT = "an order & <more> \"quoted\" 'too' ü 漢 😀\ttab\nline";
const HOUR_MS = 3_600_000;
const credential = new StorageSharedKeyCredential(ACCOUNT, KEY);

let service;
before(async () => {
  service = await start();
});
after(() => service?.stop());

/** A queue of the test's own, gone with it. */
async function own(t) {
  const queue = account(service).getQueueClient(`own-${randomUUID()}`);
  await queue.create();
  t.after(() => queue.deleteIfExists());
  return queue;
}

function refused(status, code) {
  return (error) => {
    assert.deepEqual([error.statusCode, error.code], [status, code], error.message);
    assert.ok(!error.message.includes(KEY));
    return true;
  };
}

test("a message goes through its life", async (t) => {
  const queue = await own(t);
  const sent = await queue.sendMessage(TEXT);
  assert.equal(sent.expiresOn - sent.insertedOn, 7 * 24 * HOUR_MS);
  const peeked = (await queue.peekMessages()).peekedMessageItems;
  assert.deepEqual(
    peeked.map((item) => [item.messageId, item.messageText, item.dequeueCount]),
    [[sent.messageId, TEXT, 0]],
  );
  const [held] = (await queue.receiveMessages({ visibilityTimeout: 60 })).receivedMessageItems;
  assert.deepEqual([held.messageText, held.dequeueCount], [TEXT, 1]);
  assert.deepEqual((await queue.receiveMessages()).receivedMessageItems, []);
  const kept = await queue.updateMessage(held.messageId, held.popReceipt, "changed", 0);
  await assert.rejects(
    queue.deleteMessage(held.messageId, held.popReceipt),
    refused(400, "PopReceiptMismatch"),
  );
  const [again] = (await queue.receiveMessages()).receivedMessageItems;
  assert.deepEqual([again.messageText, again.dequeueCount], ["changed", 2]);
  assert.notEqual(again.popReceipt, kept.popReceipt);
  await queue.deleteMessage(again.messageId, again.popReceipt);
  assert.equal((await queue.getProperties()).approximateMessagesCount, 0);
  await assert.rejects(
    queue.deleteMessage(again.messageId, again.popReceipt),
    refused(404, "MessageNotFound"),
  );
});

test("visibility and life end by themselves", async (t) => {
  const queue = await own(t);
  await queue.sendMessage("later", { visibilityTimeout: 1 });
  assert.deepEqual((await queue.receiveMessages()).receivedMessageItems, []);
  const take = async () => (await queue.receiveMessages({ visibilityTimeout: 1 })).receivedMessageItems[0];
  const first = await until(take, "visibility");
  const second = await until(take, "redelivery");
  assert.deepEqual([second.messageId, second.dequeueCount], [first.messageId, 2]);
  await queue.clearMessages();
  await queue.sendMessage("short", { messageTimeToLive: 1 });
  await until(
    async () => (await queue.peekMessages()).peekedMessageItems.length === 0,
    "end of the short life",
  );
  const forever = await queue.sendMessage("kept", { messageTimeToLive: -1 });
  assert.equal(forever.expiresOn.getUTCFullYear(), 9999);
});

test("batches hold at most thirty-two", async (t) => {
  const queue = await own(t);
  for (let number = 0; number < 35; number += 1) await queue.sendMessage(String(number));
  const { receivedMessageItems } = await queue.receiveMessages({ numberOfMessages: 32 });
  assert.deepEqual(
    receivedMessageItems.map((item) => item.messageText),
    Array.from({ length: 32 }, (_, number) => String(number)),
  );
  await assert.rejects(
    queue.receiveMessages({ numberOfMessages: 33 }),
    refused(400, "OutOfRangeQueryParameterValue"),
  );
  await assert.rejects(
    queue.receiveMessages({ visibilityTimeout: 604_801 }),
    refused(400, "OutOfRangeQueryParameterValue"),
  );
  await queue.sendMessage("x".repeat(64 * 1024));
  await assert.rejects(
    queue.sendMessage("x".repeat(64 * 1024 + 1)),
    refused(413, "RequestBodyTooLarge"),
  );
});

test("queues have names, metadata and pages", async (t) => {
  const client = account(service);
  const prefix = `listed-${randomUUID()}`;
  const names = [0, 1, 2, 3, 4].map((number) => `${prefix}-${number}`);
  for (const name of names) await client.createQueue(name, { metadata: { owner: name } });
  t.after(() => Promise.all(names.map((name) => client.deleteQueue(name))));
  const pages = [];
  const listed = client.listQueues({ prefix, includeMetadata: true }).byPage({ maxPageSize: 2 });
  for await (const page of listed) pages.push(page.queueItems ?? []);
  assert.deepEqual(pages.map((page) => page.length), [2, 2, 1]);
  assert.deepEqual(
    pages.flat().map((item) => [item.name, item.metadata.owner]),
    names.map((name) => [name, name]),
  );
  const queue = client.getQueueClient(names[0]);
  await queue.setMetadata({ owner: "other" });
  assert.deepEqual((await queue.getProperties()).metadata, { owner: "other" });
  await assert.rejects(
    client.createQueue(names[0], { metadata: { owner: "third" } }),
    refused(409, "QueueAlreadyExists"),
  );
  await assert.rejects(client.createQueue("Upper-Case"), refused(400, "InvalidResourceName"));
  assert.equal((await client.getQueueClient(`${prefix}-none`).deleteIfExists()).succeeded, false);
});

test("settings of the account are given back", async (t) => {
  const client = account(service);
  t.after(() => client.setProperties({ cors: [] }));
  const rule = {
    allowedOrigins: "https://example.org",
    allowedMethods: "GET",
    allowedHeaders: "",
    exposedHeaders: "",
    maxAgeInSeconds: 5,
  };
  await client.setProperties({ cors: [rule] });
  const found = await client.getProperties();
  assert.deepEqual([found.cors.length, found.cors[0].allowedOrigins], [1, rule.allowedOrigins]);
});

test("a signature opens what it says and nothing else", async (t) => {
  const queue = await own(t);
  await queue.sendMessage("x");
  const expiresOn = new Date(Date.now() + HOUR_MS);
  const permissions = QueueSASPermissions.parse("r");
  const sas = generateQueueSASQueryParameters({ queueName: queue.name, permissions, expiresOn }, credential);
  const reader = new QueueClient(`${queue.url}?${sas}`, new AnonymousCredential(), ONCE);
  assert.equal((await reader.peekMessages()).peekedMessageItems.length, 1);
  await assert.rejects(reader.receiveMessages(), refused(403, "AuthorizationPermissionMismatch"));
  const over = generateQueueSASQueryParameters(
    { queueName: queue.name, permissions, expiresOn: new Date(Date.now() - 1000) },
    credential,
  );
  const late = new QueueClient(`${queue.url}?${over}`, new AnonymousCredential(), ONCE);
  await assert.rejects(late.peekMessages(), (error) => error.statusCode === 403);

  const all = generateAccountSASQueryParameters(
    { services: "q", resourceTypes: "s", permissions: AccountSASPermissions.parse("l"), expiresOn },
    credential,
  );
  const url = `http://${service.address}/${ACCOUNT}?${all}`;
  const lister = new QueueServiceClient(url, new AnonymousCredential(), ONCE);
  const names = [];
  for await (const item of lister.listQueues({ prefix: queue.name })) names.push(item.name);
  assert.deepEqual(names, [queue.name]);
  await assert.rejects(
    lister.deleteQueue(queue.name),
    refused(403, "AuthorizationResourceTypeMismatch"),
  );
});

test("stored policies give and take what signatures refer to", async (t) => {
  const queue = await own(t);
  const sas = generateQueueSASQueryParameters({ queueName: queue.name, identifier: "readers" }, credential);
  const reader = new QueueClient(`${queue.url}?${sas}`, new AnonymousCredential(), ONCE);
  await assert.rejects(reader.peekMessages(), (error) => error.statusCode === 403);
  const expiresOn = new Date(Date.now() + HOUR_MS);
  const accessPolicy = { permissions: "r", startsOn: new Date(Date.now() - HOUR_MS), expiresOn };
  await queue.setAccessPolicy([{ id: "readers", accessPolicy }]);
  const { signedIdentifiers } = await queue.getAccessPolicy();
  assert.deepEqual(signedIdentifiers.map((one) => [one.id, one.accessPolicy.permissions]), [["readers", "r"]]);
  assert.deepEqual((await reader.peekMessages()).peekedMessageItems, []);
});

test("a wrong key opens nothing", async () => {
  const wrong = service.connectionString.replace(KEY, "bm90IHRoZSBrZXk=");
  const stranger = QueueServiceClient.fromConnectionString(wrong, ONCE);
  await assert.rejects(stranger.getProperties(), refused(403, "AuthenticationFailed"));
});

test("consumers share the messages", async (t) => {
  const queue = await own(t);
  await Promise.all(Array.from({ length: 60 }, (_, number) => queue.sendMessage(String(number))));
  const done = [];
  const consume = async () => {
    for (;;) {
      const options = { numberOfMessages: 4, visibilityTimeout: 60 };
      const { receivedMessageItems } = await queue.receiveMessages(options);
      if (receivedMessageItems.length === 0) return;
      for (const item of receivedMessageItems) {
        await queue.deleteMessage(item.messageId, item.popReceipt);
        done.push(Number(item.messageText));
      }
    }
  };
  await Promise.all([consume(), consume(), consume(), consume()]);
  done.sort((a, b) => a - b);
  assert.deepEqual(done, Array.from({ length: 60 }, (_, number) => number));
});

test("UseDevelopmentStorage=true finds the service at its usual port", async (t) => {
  const free = await new Promise((resolve) => {
    const probe = net.createServer();
    probe.once("error", () => resolve(false));
    probe.listen(10001, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
  if (!free) {
    t.skip("somebody else listens on port 10001");
    return;
  }
  const usual = await start(10001);
  t.after(() => usual.stop());
  const client = QueueServiceClient.fromConnectionString("UseDevelopmentStorage=true", ONCE);
  const queue = client.getQueueClient(`usual-${randomUUID()}`);
  await queue.create();
  await queue.sendMessage(TEXT);
  assert.equal((await queue.peekMessages()).peekedMessageItems[0].messageText, TEXT);
  await queue.delete();
});

test("the declared queues are there", { skip: IS_AZURITE && "Azurite declares nothing" }, async () => {
  const names = [];
  for await (const item of account(service).listQueues({ prefix: "declared" })) names.push(item.name);
  assert.deepEqual(names, ["declared", "declared-poison"]);
});

const inMemory = IS_AZURITE && "Azurite in memory has nothing to show";
test("what was answered outlives a process that is killed", { skip: inMemory }, async (t) => {
  const data = await mkdtemp(path.join(tmpdir(), "queue-js-"));
  t.after(() => rm(data, { recursive: true }));
  const first = await start(0, data);
  let queue = account(first).getQueueClient("declared");
  for (let number = 0; number < 40; number += 1) await queue.sendMessage(String(number));
  const taken = await queue.receiveMessages({ numberOfMessages: 20, visibilityTimeout: 600 });
  const [done, stale, ...held] = taken.receivedMessageItems;
  await queue.deleteMessage(done.messageId, done.popReceipt);
  const kept = await queue.updateMessage(stale.messageId, stale.popReceipt, "changed", 600);
  await first.stop("SIGKILL");

  const second = await start(0, data);
  t.after(() => second.stop());
  queue = account(second).getQueueClient("declared");
  assert.equal((await queue.getProperties()).approximateMessagesCount, 39);
  await assert.rejects(
    queue.deleteMessage(stale.messageId, stale.popReceipt),
    refused(400, "PopReceiptMismatch"),
  );
  await queue.deleteMessage(stale.messageId, kept.popReceipt);
  for (const item of held) await queue.deleteMessage(item.messageId, item.popReceipt);
  const left = await queue.receiveMessages({ numberOfMessages: 32 });
  assert.deepEqual(
    left.receivedMessageItems.map((item) => item.messageText),
    Array.from({ length: 20 }, (_, number) => String(number + 20)),
  );
});
