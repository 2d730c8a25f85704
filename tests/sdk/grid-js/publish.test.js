/** The official JavaScript SDK publishes to the stand-in, in both schemas and with each way in. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, test } from "node:test";

import {
  AzureKeyCredential,
  AzureSASCredential,
  EventGridPublisherClient,
  generateSharedAccessSignature,
} from "@azure/eventgrid";

import { KEY, ONCE, start } from "./service.js";

const HOUR_MS = 3_600_000;

let service;
before(async () => {
  service = await start();
});
after(() => service?.stop());

const cloud = (credential = new AzureKeyCredential(KEY), topic = "orders") =>
  new EventGridPublisherClient(service.topic(topic), "CloudEvent", credential, ONCE);
const own = () =>
  new EventGridPublisherClient(service.topic("plain"), "EventGrid", new AzureKeyCredential(KEY), ONCE);

/** A CloudEvent about `subject`. */
const event = (subject, data = { n: 1 }) => ({
  id: randomUUID(),
  type: "order.created",
  source: "/sdk/tests",
  subject,
  time: new Date("2026-03-01T10:00:00.5Z"),
  data,
});

const refused = (status) => (error) => {
  assert.equal(error.statusCode, status, error.message);
  assert.ok(!error.message.includes(KEY));
  return true;
};

test("a CloudEvent arrives as it was sent", async () => {
  const sent = event(randomUUID(), { text: "grüße", list: [1, null, 2.5] });
  const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  await cloud().send([{ ...sent, extensionAttributes: { traceparent: trace } }]);
  const [got] = await service.delivered(sent.subject, 1);
  assert.deepEqual(
    [got.specversion, got.id, got.source, got.type, got.data, got.traceparent],
    ["1.0", sent.id, sent.source, sent.type, sent.data, trace],
  );
  assert.equal(new Date(got.time).getTime(), sent.time.getTime());
});

test("bytes travel as base64", async () => {
  const sent = { ...event(randomUUID(), new Uint8Array([0, 255])), datacontenttype: "application/octet-stream" };
  await cloud().send([sent]);
  const [got] = await service.delivered(sent.subject, 1);
  assert.equal(got.data_base64, "AP8=");
});

test("a batch is delivered one by one", async () => {
  const subject = randomUUID();
  const sent = Array.from({ length: 50 }, (_, n) => event(subject, { n }));
  await cloud().send(sent);
  const got = await service.delivered(subject, 50);
  const pairs = (events) => events.map((one) => [one.id, one.data.n]).sort();
  assert.deepEqual(pairs(got), pairs(sent));
});

test("events of the schema of Event Grid arrive as the subscription asks for them", async () => {
  const subject = randomUUID();
  const sent = [1, 2].map((n) => ({
    id: randomUUID(),
    eventType: "order.created",
    subject,
    dataVersion: "2.1",
    eventTime: new Date("2026-03-01T10:00:00Z"),
    data: { n },
  }));
  await own().send(sent);
  const got = await service.delivered(subject, 2);
  got.sort((a, b) => a.data.n - b.data.n);
  assert.deepEqual(
    got.map((one) => [one.id, one.type, one.specversion, one.data]),
    sent.map((one) => [one.id, "order.created", "1.0", one.data]),
  );
});

test("a signature made of the key opens, and one that is over does not", async () => {
  const key = new AzureKeyCredential(KEY);
  const sign = (until) => generateSharedAccessSignature(service.topic("orders"), key, until);
  const good = await sign(new Date(Date.now() + HOUR_MS));
  const sent = event(randomUUID());
  await cloud(new AzureSASCredential(good)).send([sent]);
  assert.equal((await service.delivered(sent.subject, 1))[0].id, sent.id);
  const over = await sign(new Date(Date.now() - HOUR_MS));
  await assert.rejects(cloud(new AzureSASCredential(over)).send([sent]), refused(401));
});

test("another key, another topic and another schema are refused", async () => {
  const sent = event(randomUUID());
  await assert.rejects(cloud(new AzureKeyCredential("d3Jvbmc=")).send([sent]), refused(401));
  await assert.rejects(cloud(undefined, "nowhere").send([sent]), refused(404));
  const plain = { id: "1", eventType: "t", subject: "s", dataVersion: "1", data: {} };
  const wrong = new EventGridPublisherClient(
    service.topic("orders"),
    "EventGrid",
    new AzureKeyCredential(KEY),
    ONCE,
  );
  await assert.rejects(wrong.send([plain]), refused(415));
});
