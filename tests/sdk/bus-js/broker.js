// The broker that run.js has started, and what the tests say often.

const { createHmac, randomUUID } = require("node:crypto");
const { ServiceBusAdministrationClient, ServiceBusClient } = require("@azure/service-bus");

const ready = JSON.parse(process.env.BULKHEAD_BUS_READY);

// Few retries, so that refusals fail fast.
const retryOptions = { maxRetries: 0, timeoutInMs: 15_000 };

const ROOT = { name: "RootManageSharedAccessKey", key: "SAS_KEY_VALUE" };

function connectionString(address, { emulator = true, name = ROOT.name, key = ROOT.key } = {}) {
  const keys = `SharedAccessKeyName=${name};SharedAccessKey=${key}`;
  return `Endpoint=sb://${address};${keys}${emulator ? ";UseDevelopmentEmulator=true" : ""}`;
}

const admin = new ServiceBusAdministrationClient(connectionString(ready.adminAddress));

function connect(options = {}) {
  return new ServiceBusClient(connectionString(ready.address), { retryOptions, ...options });
}

// A shared access signature of the root key, good for the whole namespace.
function signature(until, { name, key } = ROOT) {
  const resource = encodeURIComponent("sb://localhost/");
  const expiry = Math.ceil(until / 1_000);
  const signed = createHmac("sha256", key).update(`${resource}\n${expiry}`).digest("base64");
  const parts = { sr: resource, sig: encodeURIComponent(signed), se: expiry, skn: name };
  const text = Object.entries(parts).map(([field, value]) => `${field}=${value}`).join("&");
  return `SharedAccessSignature ${text}`;
}

// Runs a test with a client and a queue of its own.
async function withQueue(options, test) {
  const queue = `q-${randomUUID()}`;
  await admin.createQueue(queue, options);
  const client = connect();
  try {
    await test(client, queue);
  } finally {
    await client.close();
    await admin.deleteQueue(queue).catch(() => {});
  }
}

// Runs a test with a client and a topic of its own.
async function withTopic(options, test) {
  const topic = `t-${randomUUID()}`;
  await admin.createTopic(topic, options);
  const client = connect();
  try {
    await test(client, topic);
  } finally {
    await client.close();
    await admin.deleteTopic(topic).catch(() => {});
  }
}

// Exactly `count` messages, within a deadline.
async function receive(receiver, count, waitMs = 10_000) {
  const received = [];
  const deadline = Date.now() + waitMs;
  while (received.length < count && Date.now() < deadline) {
    const left = Math.max(1, deadline - Date.now());
    received.push(
      ...(await receiver.receiveMessages(count - received.length, { maxWaitTimeInMs: left })),
    );
  }
  if (received.length < count) throw new Error(`${received.length} of ${count} messages came`);
  return received;
}

async function nothing(receiver) {
  return (await receiver.receiveMessages(1, { maxWaitTimeInMs: 300 })).length === 0;
}

async function until(condition, waitMs = 30_000) {
  const deadline = Date.now() + waitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error("it did not happen in time");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

module.exports = {
  ROOT, admin, connect, connectionString, nothing, ready, receive, retryOptions, signature, until,
  withQueue, withTopic,
};
