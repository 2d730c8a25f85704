// What holds items and what is asked of them: keys of several levels, unique keys, lifetimes, sessions,
// the limits of batches, and everything that is refused.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { eventually, failure, ownContainer, start } from "./service.js";

let service, client, container;

before(async () => {
  service = await start();
  client = service.client();
  container = await ownContainer(client);
});
after(async () => {
  client?.dispose();
  await service?.stop();
});

const ids = (result) => result.resources.map((each) => each.id).sort();

test("keys of several levels, whole and in part", async () => {
  const partitionKey = { paths: ["/tenant", "/user", "/session"], kind: "MultiHash", version: 2 };
  const tenants = await ownContainer(client, { partitionKey });
  for (const [user, session] of [["u1", 1], ["u1", 2], ["u2", 1]]) {
    await tenants.items.create({ id: `${user}-${session}`, tenant: "t", user, session });
  }
  await tenants.items.create({ id: "u1-1", tenant: "other", user: "u1", session: 1 });
  assert.equal((await tenants.item("u1-2", ["t", "u1", 2]).read()).resource.session, 2);
  assert.equal((await tenants.item("u1-2", ["t", "u1", 3]).read()).statusCode, 404);
  for (const [partition, expected] of [
    [["t", "u1", 2], ["u1-2"]],
    [["t", "u1"], ["u1-1", "u1-2"]],
    [["t"], ["u1-1", "u1-2", "u2-1"]],
    [["none"], []],
  ]) {
    const found = await tenants.items.query("SELECT * FROM c", { partitionKey: partition }).fetchAll();
    assert.deepEqual(ids(found), expected, `${partition}`);
  }
  const moved = tenants.item("u1-2", ["t", "u1", 2]).patch([{ op: "set", path: "/user", value: "u9" }]);
  assert.equal((await failure(moved)).code, 400);
  const results = await tenants.items.batch(
    [{ operationType: "Delete", id: "u1-2" }, { operationType: "Read", id: "none" }],
    ["t", "u1", 2],
  );
  assert.deepEqual(results.result.map((each) => each.statusCode), [424, 404]);
});

test("unique keys hold within a partition", async () => {
  const people = await ownContainer(client, {
    uniqueKeyPolicy: { uniqueKeys: [{ paths: ["/email"] }, { paths: ["/name/first", "/name/last"] }] },
  });
  const ada = { id: "1", pk: "p", email: "a@x", name: { first: "Ada", last: "L" } };
  await people.items.create(ada);
  const second = { id: "2", pk: "p", email: "b@x", name: { first: "Ada", last: "M" } };
  await people.items.create(second);
  const to = (path, value) => people.item("2", "p").patch([{ op: "set", path, value }]);
  for (const [what, write] of [
    ["create", () => people.items.create({ ...ada, id: "3" })],
    ["upsert", () => people.items.upsert({ ...ada, id: "3", email: "c@x" })],
    ["replace", () => people.item("2", "p").replace({ ...second, email: "a@x" })],
    ["patch", () => to("/name/last", "L")],
  ]) {
    assert.equal((await failure(write())).code, 409, what);
  }
  assert.equal((await people.items.create({ ...ada, pk: "q" })).statusCode, 201);
  await people.item("1", "p").delete();
  assert.equal((await to("/name/last", "L")).resource.name.last, "L");
});

test("what has expired is gone everywhere", async () => {
  const own = await ownContainer(client);
  await own.items.create({ id: "short", pk: "p", ttl: 1 });
  await own.items.create({ id: "long", pk: "p", ttl: 3600 });
  await own.items.create({ id: "ever", pk: "p" });
  const left = async () => ids(await own.items.query("SELECT * FROM c").fetchAll());
  await eventually(async () => (await left()).length === 2, "expiry of an item");
  assert.deepEqual(await left(), ["ever", "long"]);
  assert.equal((await own.item("short", "p").read()).statusCode, 404);
  assert.equal((await own.items.create({ id: "short", pk: "p" })).statusCode, 201);
  await own.item("long", "p").patch([{ op: "set", path: "/ttl", value: 1 }]);
  await eventually(async () => !(await left()).includes("long"), "expiry of a patched item");
  const { resource } = await own.read();
  await own.replace({ ...resource, defaultTtl: 1 });
  await eventually(async () => (await left()).length === 0, "expiry by the default of the container");
});

test("preconditions on every kind of write", async () => {
  const stale = { accessCondition: { type: "IfMatch", condition: '"stale"' } };
  const body = { id: "guarded", pk: "p", n: 1 };
  const { etag } = await container.items.create(body);
  const item = container.item("guarded", "p");
  const patch = [{ op: "incr", path: "/n", value: 1 }];
  for (const [what, write] of [
    ["replace", (options) => item.replace(body, options)],
    ["upsert", (options) => container.items.upsert(body, options)],
    ["patch", (options) => item.patch(patch, options)],
    ["delete", (options) => item.delete(options)],
  ]) {
    assert.equal((await failure(write(stale))).code, 412, what);
  }
  assert.equal((await item.read()).etag, etag);
  const fresh = { accessCondition: { type: "IfMatch", condition: etag } };
  assert.equal((await item.patch(patch, fresh)).resource.n, 2);
});

test("batches have limits, and each failure takes everything back", async () => {
  const pk = "limits";
  const create = (id, more = {}) => ({ operationType: "Create", resourceBody: { id, pk, ...more } });
  const hundred = Array.from({ length: 100 }, (_, n) => create(`${n}`));
  const whole = await container.items.batch(hundred, pk);
  assert.deepEqual([whole.code, whole.result.length], [200, 100]);
  const text = "x".repeat(700_000);
  const { etag } = await container.items.create({ id: "x", pk, n: 1 });
  for (const [operations, expected] of [
    [["a", "b", "c"].map((id) => create(id, { text })), /too large/],
    [[create("elsewhere", { pk: "other" })], /does not match/],
  ]) {
    // The SDK keeps the message and not the status.
    assert.match((await failure(container.items.batch(operations, pk))).message, expected);
  }
  const replace = { operationType: "Replace", id: "x", resourceBody: { id: "x", pk, n: 2 } };
  const patch = (operations, condition) => ({
    operationType: "Patch", id: "x", resourceBody: { operations, condition },
  });
  const set = [{ op: "set", path: "/n", value: 3 }];
  for (const [operation, expected] of [
    [create("x"), 409],
    [{ ...replace, ifMatch: '"stale"' }, 412],
    [{ operationType: "Delete", id: "x", ifMatch: '"stale"' }, 412],
    [{ operationType: "Read", id: "none" }, 404],
    [patch(set, "from c where c.n = 2"), 412],
    [patch([{ op: "replace", path: "/none", value: 1 }]), 400],
  ]) {
    const { result } = await container.items.batch([create("first"), operation, create("last")], pk);
    assert.deepEqual(result.map((each) => each.statusCode), [424, expected, 424], JSON.stringify(operation));
  }
  assert.equal((await container.item("first", pk).read()).statusCode, 404);
  const good = await container.items.batch([{ ...replace, ifMatch: etag }, patch(set, "from c where c.n = 2")], pk);
  assert.deepEqual(good.result.map((each) => each.statusCode), [200, 200]);
  assert.equal(good.result[1].resourceBody.n, 3);
  assert.notEqual(good.result[0].eTag, etag);
});

test("what cannot be stored is refused, and nothing of it stays", async () => {
  const deep = (levels) => JSON.parse("[".repeat(levels) + "]".repeat(levels));
  const own = await ownContainer(client);
  for (const [what, item, expected] of [
    ["a long id", { id: "x".repeat(1024), pk: "p" }, 400],
    ["a lifetime of nothing", { id: "t", pk: "p", ttl: 0 }, 400],
    ["a lifetime in words", { id: "t", pk: "p", ttl: "1" }, 400],
    ["a key that is an object", { id: "k", pk: { a: 1 } }, 400],
    ["too many levels", { id: "d", pk: "p", deep: deep(130) }, 400],
    ["too large", { id: "l", pk: "p", text: "x".repeat(2 * 1024 * 1024) }, 413],
  ]) {
    assert.equal((await failure(own.items.create(item))).code, expected, what);
  }
  assert.equal((await own.items.create({ id: "deep", pk: "p", deep: deep(100) })).statusCode, 201);
  const all = await own.items.query("SELECT * FROM c").fetchAll();
  assert.deepEqual(ids(all), ["deep"]);
  for (const definition of [
    { partitionKey: { paths: ["pk"] } },
    { partitionKey: { paths: ["/a", "/b", "/c", "/d"], kind: "MultiHash", version: 2 } },
    { defaultTtl: 0 },
  ]) {
    assert.equal((await failure(ownContainer(client, definition))).code, 400, JSON.stringify(definition));
  }
});
