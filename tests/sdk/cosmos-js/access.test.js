// Keys, faults on order, and throughput.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { failure, ownContainer, readOnlyKey, start } from "./service.js";

let service, client, container;

before(async () => {
  service = await start(
    "--faults", "--enforce-throughput", "--read-only-key", readOnlyKey, "--ranges", "2",
  );
  client = service.client();
  container = await ownContainer(client);
  await container.items.create({ id: "1", pk: "p" });
});
after(async () => {
  client?.dispose();
  await service?.stop();
});

const order = async (rules) => {
  const answer = await fetch(`${service.endpoint}/admin/faults`, {
    method: "PUT",
    body: JSON.stringify(rules),
  });
  assert.equal(answer.status, 200);
};

test("a key that only reads cannot write", async () => {
  const reader = service.client({ key: readOnlyKey });
  const same = reader.database(container.database.id).container(container.id);
  assert.equal((await same.item("1", "p").read()).statusCode, 200);
  assert.equal((await same.items.query("SELECT * FROM c").fetchAll()).resources.length, 1);
  for (const write of [
    () => same.items.create({ id: "2", pk: "p" }),
    () => same.item("1", "p").delete(),
    () => same.item("1", "p").patch([{ op: "set", path: "/a", value: 1 }]),
    () => same.delete(),
    () => reader.databases.create({ id: "no" }),
  ]) {
    assert.equal((await failure(write())).code, 403);
  }
  reader.dispose();
  const stranger = service.client({ key: Buffer.from("another").toString("base64") });
  assert.equal((await failure(stranger.databases.readAll().fetchAll())).code, 401);
  stranger.dispose();
});

test("the SDK retries what it is told to retry", async () => {
  await order([{ path: "/docs", times: 2, fault: { kind: "refuse", status: 429, retryAfterMs: 5 } }]);
  assert.equal((await container.item("1", "p").read()).statusCode, 200);
  await order([{ path: "/docs", times: 1, fault: { kind: "refuse", status: 449 } }]);
  const answer = await container.item("1", "p").read().catch((error) => error);
  assert.ok([200, 449].includes(answer.statusCode ?? answer.code));
  await order([]);
});

test("without retries the fault is seen as it is", async () => {
  const connectionPolicy = { retryOptions: { maxRetryAttemptCount: 0 } };
  const impatient = service.client({ connectionPolicy });
  const same = impatient.database(container.database.id).container(container.id);
  const fault = { kind: "refuse", status: 429, retryAfterMs: 7 };
  await order([{ path: "/docs", fault }]);
  const error = await failure(same.item("1", "p").read());
  assert.deepEqual([error.code, error.substatus], [429, 3200]);
  assert.equal(Number(error.headers["x-ms-retry-after-ms"]), 7);
  await order([]);
  impatient.dispose();
});

test("every fault on order comes as what it is, to every kind of request", async () => {
  const connectionPolicy = { retryOptions: { maxRetryAttemptCount: 0 } };
  for (const [status, code] of [
    [408, "RequestTimeout"], [429, "429"], [449, "449"], [503, "ServiceUnavailable"],
  ]) {
    const impatient = service.client({ connectionPolicy });
    const same = impatient.database(container.database.id).container(container.id);
    await order([{ path: "/docs", fault: { kind: "refuse", status, retryAfterMs: 3 } }]);
    for (const [what, ask] of [
      ["create", () => same.items.create({ id: "fault", pk: "p" })],
      ["patch", () => same.item("1", "p").patch([{ op: "set", path: "/fault", value: 1 }])],
      ["query", () => same.items.query("SELECT * FROM c", { partitionKey: "p" }).fetchAll()],
    ]) {
      const error = await failure(ask());
      assert.deepEqual([error.code, error.body?.code], [status, code], what);
      const delay = [429, 449].includes(status) ? "3" : undefined;
      assert.equal(error.headers?.["x-ms-retry-after-ms"], delay, `${status} ${what}`);
    }
    impatient.dispose();
    await order([]);
  }
  assert.equal((await container.item("fault", "p").read()).statusCode, 404, "nothing was applied");
  assert.equal((await container.item("1", "p").read()).resource.fault, undefined);
});

test("an answer that is lost was nevertheless given", async () => {
  await order([{ method: "POST", path: "/docs", times: 1, fault: { kind: "drop" } }]);
  await container.items.create({ id: "lost", pk: "p" }).catch(() => undefined);
  assert.equal((await container.item("lost", "p").read()).statusCode, 200);
  await order([]);
});

test("more than was offered is refused for a while", async () => {
  const connectionPolicy = { retryOptions: { maxRetryAttemptCount: 0 } };
  const impatient = service.client({ connectionPolicy });
  const small = await ownContainer(impatient, { throughput: 400 });
  // About fifty request units each: many times what a second has, however slow the machine is.
  const text = "x".repeat(100 * 1024);
  const creates = Array.from({ length: 200 }, (_, n) =>
    small.items.create({ id: `${n}`, pk: "p", text }),
  );
  const settled = await Promise.allSettled(creates);
  const refused = settled.filter((each) => each.status === "rejected").map((each) => each.reason);
  assert.ok(refused.length > 0 && refused.length < 200, `${refused.length} of 200`);
  assert.ok(refused.every((error) => error.code === 429 && error.headers["x-ms-retry-after-ms"] > 0));
  const state = await (await fetch(`${service.endpoint}/admin/state`)).json();
  const containers = state.databases.flatMap((database) => database.containers);
  const seen = containers.find((each) => each.id === small.id);
  assert.equal(seen.throttled, refused.length);
  assert.equal(seen.items, 200 - refused.length);
  const metrics = await (await fetch(`${service.endpoint}/metrics`)).text();
  assert.match(metrics, new RegExp(`cosmos_throttled_total\\{.*${small.id}"\\} ${refused.length}\\n`));
  impatient.dispose();
});
