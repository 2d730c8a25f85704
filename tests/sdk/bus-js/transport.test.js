// The other ways to the broker: TLS, and WebSockets with and without it.

const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const test = require("node:test");
const { ServiceBusClient } = require("@azure/service-bus");
const WebSocket = require("ws");

const { connectionString, ready, receive, retryOptions, withQueue } = require("./broker.js");

const port = (address) => address.split(":").pop();

// The connection string of the cloud: no mention of an emulator.
const secure = connectionString("localhost", { emulator: false });
const customEndpointAddress = `sb://localhost:${port(ready.tlsAddress)}`;

for (const [name, options] of [
  ["TLS", {}],
  ["WebSockets within TLS", { webSocketOptions: { webSocket: WebSocket } }],
]) {
  test(name, () =>
    withQueue({}, async (_, queue) => {
      const client = new ServiceBusClient(secure, {
        customEndpointAddress,
        retryOptions,
        ...options,
      });
      const body = Buffer.alloc(200_000, "x");
      await client.createSender(queue).sendMessages({ body });
      const receiver = client.createReceiver(queue);
      const [message] = await receive(receiver, 1);
      assert.ok(body.equals(message.body));
      await receiver.renewMessageLock(message);
      await receiver.completeMessage(message);
      await client.close();
    }));
}

test("a certificate that is not trusted is not taken", () => {
  const text = `
    const { ServiceBusClient } = require("@azure/service-bus");
    const client = new ServiceBusClient(${JSON.stringify(secure)}, {
      customEndpointAddress: ${JSON.stringify(customEndpointAddress)},
      retryOptions: ${JSON.stringify(retryOptions)},
    });
    client.createSender("q").sendMessages({ body: 1 }).then(
      () => process.exit(1),
      (error) => console.log(error.message),
    ).finally(() => client.close());`;
  const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
  const { status, stdout } = spawnSync(process.execPath, ["-e", text], { cwd: __dirname, env });
  assert.equal(status, 0);
  assert.match(String(stdout), /certificate/);
});

test("almost a mebibyte in one message", () =>
  withQueue({}, async (client, queue) => {
    const body = Buffer.alloc(1_040_000, "y");
    await client.createSender(queue).sendMessages({ body });
    const [message] = await receive(client.createReceiver(queue), 1);
    assert.ok(body.equals(message.body));
  }));
