// The other ways to the broker: TLS, and WebSockets with and without it.

const assert = require("node:assert/strict");
const test = require("node:test");
const { ServiceBusClient } = require("@azure/service-bus");
const WebSocket = require("ws");

const { connectionString, ready, receive, retryOptions, withQueue } = require("./broker.js");

const port = (address) => address.split(":").pop();

// The connection string of the cloud: no mention of an emulator.
const secure = connectionString("localhost", false);
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
