// Who may do what: keys of the namespace and of an entity, tokens that end and tokens renewed.

const assert = require("node:assert/strict");
const test = require("node:test");
const { ServiceBusAdministrationClient, ServiceBusClient } = require("@azure/service-bus");

const {
  ROOT, connectionString, ready, receive, retryOptions, signature, until, withQueue,
} = require("./broker.js");

const refused = { code: "UnauthorizedAccess" };

function rule(right) {
  return {
    claimType: "SharedAccessKey",
    accessRights: [right],
    keyName: `entity-${right}`,
    primaryKey: `entity-${right}-1`,
    secondaryKey: `entity-${right}-2`,
  };
}

const authorizationRules = [rule("Send"), rule("Listen")];

// Every key of either kind: what its holder may do with the queue, and whether with another one.
for (const level of ["namespace", "entity"]) {
  for (const right of ["Send", "Listen"]) {
    for (const key of [1, 2]) {
      test(`key ${key} of the ${level} for ${right} allows that and no more`, () =>
        withQueue({ authorizationRules }, (_, queue) =>
          withQueue({}, async (root, other) => {
            for (const each of [queue, other]) {
              await root.createSender(each).sendMessages({ body: "there" });
            }
            const name = `${level}-${right}`;
            const keys = { name, key: `${name}-${key}` };
            const client = new ServiceBusClient(connectionString(ready.address, keys), {
              retryOptions,
            });
            const use = {
              Send: (to) => client.createSender(to).sendMessages({ body: "x" }),
              Listen: async (from) => {
                const receiver = client.createReceiver(from);
                const [message] = await receive(receiver, 1);
                await receiver.completeMessage(message);
              },
            };
            for (const attempt of Object.keys(use)) {
              for (const each of [queue, other]) {
                const allowed = attempt === right && (each === queue || level === "namespace");
                if (allowed) await use[attempt](each);
                else await assert.rejects(use[attempt](each), refused, `${attempt} ${each}`);
              }
            }
            const text = connectionString(ready.adminAddress, keys);
            const manager = new ServiceBusAdministrationClient(text);
            await assert.rejects(manager.getQueue(queue), { statusCode: 401 });
            await client.close();
          })));
    }
  }
}

for (const [what, keys] of [
  ["key", { key: "wrong" }],
  ["name", { name: "Nobody" }],
]) {
  test(`a wrong ${what} is refused`, () =>
    withQueue({}, async (_, queue) => {
      const client = new ServiceBusClient(connectionString(ready.address, keys), { retryOptions });
      await assert.rejects(client.createSender(queue).sendMessages({ body: 1 }), refused);
      await assert.rejects(client.createReceiver(queue).peekMessages(1), refused);
      await client.close();
    }));
}

// The SDK renews two minutes before what it is told of a token's end. The broker goes by the token.
const RENEWED_BEFORE_MS = 120_000;
const RENEWED_AFTER_MS = 3_000;
const LIFE_MS = 7_000;

// Sends on one link until it was refused, or until the first token is over by some seconds.
async function sendBeyond(queue, keys) {
  const given = [];
  const credential = {
    getToken: async () => {
      const now = Date.now();
      given.push(now + LIFE_MS);
      const token = signature(now + LIFE_MS, keys[Math.min(given.length, keys.length) - 1]);
      return { token, expiresOnTimestamp: now + RENEWED_BEFORE_MS + RENEWED_AFTER_MS };
    },
  };
  const client = new ServiceBusClient("localhost", credential, {
    customEndpointAddress: `sb://localhost:${ready.tlsAddress.split(":").pop()}`,
    retryOptions,
  });
  const links = new Set();
  try {
    const sender = client.createSender(queue);
    await sender.sendMessages({ body: "first" });
    await until(async () => {
      await sender.sendMessages({ body: "x" });
      links.add(sender._sender._link);
      return Date.now() > given[0] + 3_000;
    });
  } finally {
    await client.close();
  }
  return { given, links };
}

test("a renewed token keeps the link", () =>
  withQueue({}, async (_, queue) => {
    const { given, links } = await sendBeyond(queue, [ROOT]);
    assert.ok(given.length > 1);
    assert.equal(links.size, 1);
  }));

test("a failed renewal ends the link", () =>
  withQueue({}, (_, queue) =>
    assert.rejects(sendBeyond(queue, [ROOT, { ...ROOT, key: "revoked" }]), refused)));

test("a link ends with its token", () =>
  withQueue({}, async (_, queue) => {
    const end = Math.ceil((Date.now() + 3_000) / 1_000) * 1_000;
    const credential = {
      getToken: async () => ({ token: signature(end), expiresOnTimestamp: end + 600_000 }),
    };
    const client = new ServiceBusClient("localhost", credential, {
      customEndpointAddress: `sb://localhost:${ready.tlsAddress.split(":").pop()}`,
      retryOptions,
    });
    const sender = client.createSender(queue);
    await sender.sendMessages({ body: "in time" });
    await assert.rejects(
      until(async () => void (await sender.sendMessages({ body: "x" }))),
      refused,
    );
    assert.ok(Date.now() >= end);
    await client.close();
  }));
