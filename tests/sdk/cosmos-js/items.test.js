// Items, patches, batches and the change feed through the official SDK.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import {
  ChangeFeedMode,
  ChangeFeedPolicy,
  ChangeFeedRetentionTimeSpan,
  ChangeFeedStartFrom,
  StatusCodes,
} from "@azure/cosmos";

import { failure, ownContainer, ranges, start } from "./service.js";

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

test("databases, containers and offers are kept", async () => {
  const { database } = await client.databases.createIfNotExists({ id: "control" });
  const definition = {
    id: "c",
    partitionKey: { paths: ["/a", "/b"], kind: "MultiHash", version: 2 },
    uniqueKeyPolicy: { uniqueKeys: [{ paths: ["/u"] }] },
    defaultTtl: 60,
    analyticalStorageTtl: -1,
    conflictResolutionPolicy: { mode: "LastWriterWins", conflictResolutionPath: "/when" },
    indexingPolicy: {
      indexingMode: "consistent",
      automatic: true,
      includedPaths: [{ path: "/*" }],
      excludedPaths: [],
      compositeIndexes: [[{ path: "/x", order: "ascending" }, { path: "/y", order: "descending" }]],
    },
  };
  const throughput = 700;
  // The SDK changes what it is given.
  await database.containers.create({ ...definition, throughput });
  assert.equal((await failure(database.containers.create({ ...definition }))).code, 409);
  const { resource } = await database.container("c").read();
  for (const [name, value] of Object.entries(definition)) {
    assert.deepEqual(resource[name], value, name);
  }
  const offer = await database.container("c").readOffer();
  assert.equal(offer.resource.content.offerThroughput, throughput);
  const changed = { ...offer.resource, content: { ...offer.resource.content, offerThroughput: 900 } };
  await client.offer(offer.resource.id).replace(changed);
  assert.equal((await database.container("c").readOffer()).resource.content.offerThroughput, 900);
  const ids = (await database.containers.readAll().fetchAll()).resources.map((each) => each.id);
  assert.deepEqual(ids, ["c"]);
  await database.delete();
  assert.equal((await failure(database.read())).code, 404);
});

test("items live with their versions", async () => {
  const item = { id: "v", pk: "p", n: 1, deep: { list: [1, "x", null] } };
  const created = await container.items.create(item);
  assert.equal(created.statusCode, StatusCodes.Created);
  assert.ok(created.requestCharge > 5 && created.requestCharge < 8);
  assert.equal((await failure(container.items.create(item))).code, 409);
  const read = await container.item("v", "p").read();
  assert.deepEqual(read.resource.deep, item.deep);
  assert.equal(read.etag, created.etag);
  assert.equal(read.requestCharge, 1);
  const stale = { accessCondition: { type: "IfMatch", condition: created.etag } };
  const replaced = await container.item("v", "p").replace({ ...item, n: 2 }, stale);
  assert.notEqual(replaced.etag, created.etag);
  assert.equal((await failure(container.item("v", "p").replace(item, stale))).code, 412);
  assert.equal((await failure(container.item("v", "p").delete(stale))).code, 412);
  const fresh = { accessCondition: { type: "IfNoneMatch", condition: replaced.etag } };
  assert.equal((await container.item("v", "p").read(fresh)).statusCode, 304);
  assert.equal((await container.items.upsert({ ...item, n: 3 })).statusCode, 200);
  assert.equal((await container.item("v", "p").delete()).statusCode, 204);
  assert.equal((await container.item("v", "p").read()).statusCode, 404);
});

test("what is wrong with an item is said with the right status", async () => {
  assert.equal((await failure(container.items.create({ id: "a/b", pk: "p" }))).code ?? 400, 400);
  const large = { id: "large", pk: "p", text: "x".repeat(2 * 1024 * 1024) };
  assert.equal((await failure(container.items.create(large))).code, 413);
  assert.equal((await failure(container.items.create({ id: "t", pk: "p", ttl: 0 }))).code, 400);
  await container.items.create({ id: "moved", pk: "p" });
  const other = { id: "moved", pk: "q" };
  assert.equal((await failure(container.item("moved", "p").replace(other))).code, 400);
});

test("a patch does what it says, all of it or nothing", async () => {
  await container.items.create({ id: "x", pk: "p", n: 1, list: [1, 2], o: { a: 1 } });
  const item = container.item("x", "p");
  const { resource } = await item.patch([
    { op: "add", path: "/list/-", value: 3 },
    { op: "set", path: "/o/b", value: 2 },
    { op: "replace", path: "/o/a", value: 9 },
    { op: "incr", path: "/n", value: 4 },
    { op: "incr", path: "/fresh", value: 2 },
    { op: "move", from: "/o/b", path: "/moved" },
    { op: "remove", path: "/list/0" },
  ]);
  const { n, list, o, moved, fresh } = resource;
  assert.deepEqual({ n, list, o, moved, fresh }, { n: 5, list: [2, 3], o: { a: 9 }, moved: 2, fresh: 2 });
  const claim = { operations: [{ op: "set", path: "/n", value: 0 }], condition: "from c where c.n = 5" };
  await item.patch(claim);
  assert.equal((await failure(item.patch(claim))).code, 412);
  for (const bad of [
    [{ op: "set", path: "/id", value: "y" }],
    [{ op: "set", path: "/pk", value: "y" }],
    [{ op: "set", path: "/_ts", value: 1 }],
    [{ op: "remove", path: "/none" }],
    [{ op: "replace", path: "/none", value: 1 }],
    [{ op: "add", path: "/none/deep", value: 1 }],
    [{ op: "incr", path: "/list", value: 1 }],
    [{ op: "set", path: "/n", value: 7 }, { op: "remove", path: "/none" }],
    Array.from({ length: 11 }, () => ({ op: "incr", path: "/n", value: 1 })),
  ]) {
    assert.equal((await failure(item.patch(bad))).code, 400, JSON.stringify(bad));
  }
  assert.equal((await item.read()).resource.n, 0, "nothing was half-applied");
});

test("a batch is whole or not at all", async () => {
  const pk = "batch";
  const good = await container.items.batch(
    [
      { operationType: "Create", resourceBody: { id: "1", pk, n: 1 } },
      { operationType: "Patch", id: "1", resourceBody: { operations: [{ op: "incr", path: "/n", value: 1 }] } },
      { operationType: "Read", id: "1" },
    ],
    pk,
  );
  assert.equal(good.code, 200);
  assert.deepEqual(good.result.map((each) => each.statusCode), [201, 200, 200]);
  const bad = await container.items.batch(
    [
      { operationType: "Create", resourceBody: { id: "2", pk } },
      { operationType: "Replace", id: "1", ifMatch: '"stale"', resourceBody: { id: "1", pk } },
      { operationType: "Delete", id: "1" },
    ],
    pk,
  );
  assert.deepEqual(bad.result.map((each) => each.statusCode), [424, 412, 424]);
  assert.equal((await container.item("2", pk).read()).statusCode, 404);
});

test("bulk operations go by themselves", async () => {
  const results = await container.items.executeBulkOperations([
    { operationType: "Create", resourceBody: { id: "b1", pk: "one" }, partitionKey: "one" },
    { operationType: "Create", resourceBody: { id: "b2", pk: "two" }, partitionKey: "two" },
    { operationType: "Delete", id: "none", partitionKey: "two" },
  ]);
  const statuses = results.map((each) => each.response?.statusCode ?? each.error?.code);
  assert.deepEqual(statuses, [201, 201, 404]);
});

test("the change feed has the latest version of everything, in order", async () => {
  const own = await ownContainer(client);
  const read = async (changeFeedStartFrom) => {
    const iterator = own.items.getChangeFeedIterator({ changeFeedStartFrom, maxItemCount: 2 });
    const found = [];
    let token;
    for (;;) {
      const page = await iterator.readNext();
      token = page.continuationToken;
      if (page.statusCode === 304) {
        return { found, token };
      }
      found.push(...page.result.map((each) => each.id));
    }
  };
  for (const id of ["a", "b", "c"]) {
    await own.items.create({ id, pk: id });
  }
  await own.items.upsert({ id: "a", pk: "a", again: true });
  await own.item("b", "b").delete();
  const all = await read(ChangeFeedStartFrom.Beginning());
  assert.deepEqual(ranges > 1 ? all.found.sort() : all.found, ranges > 1 ? ["a", "c"] : ["c", "a"]);
  assert.deepEqual((await read(ChangeFeedStartFrom.Now())).found, []);
  await own.items.create({ id: "d", pk: "d" });
  assert.deepEqual((await read(ChangeFeedStartFrom.Continuation(all.token))).found, ["d"]);
  const past = ChangeFeedStartFrom.Time(new Date(Date.now() - 60_000));
  const sincePast = (await read(past)).found;
  // Every range has an order of its own.
  assert.deepEqual(ranges > 1 ? sincePast.sort() : sincePast, ranges > 1 ? ["a", "c", "d"] : ["c", "a", "d"]);
  assert.deepEqual((await read(ChangeFeedStartFrom.Beginning("c"))).found, ["c"]);
});

test("all versions and deletes, from now and from a continuation", async () => {
  const own = await ownContainer(client, {
    changeFeedPolicy: new ChangeFeedPolicy(ChangeFeedRetentionTimeSpan.fromMinutes(5)),
  });
  const definition = (await own.read()).resource;
  assert.equal(definition.changeFeedPolicy.retentionDuration, 5);
  await own.items.create({ id: "old", pk: "p" });
  const poll = async (changeFeedStartFrom) => {
    const iterator = own.items.getChangeFeedIterator({
      changeFeedStartFrom,
      changeFeedMode: ChangeFeedMode.AllVersionsAndDeletes,
      maxItemCount: 2,
    });
    const found = [];
    for (;;) {
      const page = await iterator.readNext();
      if (page.statusCode === 304) {
        return { found, token: page.continuationToken };
      }
      found.push(...page.result);
    }
  };
  const begun = await poll(ChangeFeedStartFrom.Now("p"));
  assert.deepEqual(begun.found, []);
  await own.items.create({ id: "a", pk: "p", n: 1 });
  await own.item("a", "p").patch([{ op: "incr", path: "/n", value: 1 }]);
  await own.item("a", "p").delete();
  const { found, token } = await poll(ChangeFeedStartFrom.Continuation(begun.token));
  assert.deepEqual(found.map((each) => each.metadata.operationType), ["create", "replace", "delete"]);
  assert.deepEqual(found.map((each) => (each.current ?? each.previous).n), [1, 2, 2]);
  const [created, replaced, deleted] = found.map((each) => each.metadata);
  assert.equal(replaced.previousImageLSN, created.lsn);
  assert.equal(deleted.previousImageLSN, replaced.lsn);
  assert.deepEqual([deleted.id, deleted.partitionKey, deleted.timeToLiveExpired], ["a", { pk: "p" }, false]);
  assert.ok(Math.abs(deleted.crts - Date.now() / 1000) < 600);
  assert.deepEqual((await poll(ChangeFeedStartFrom.Continuation(token))).found, []);
  const refused = await failure(poll(ChangeFeedStartFrom.Beginning("p")));
  assert.equal(refused.code, 400);
});
