// What outlives the process, https, and requests that no SDK sends.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import https from "node:https";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, mock, test } from "node:test";

import { ChangeFeedStartFrom } from "@azure/cosmos";

import { failure, key, ownContainer, start } from "./service.js";

let folder;

before(() => {
  folder = mkdtempSync(path.join(tmpdir(), "cosmos-js-durable-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

for (const options of [[], ["--no-fsync"]]) {
  const name = ["whatever was answered is there after SIGKILL, a batch as a whole", ...options];
  test(name.join(" "), () => killed(["--data", path.join(folder, `data${options}`), ...options]));
}

async function killed(data) {
  let service = await start(...data);
  let client = service.client();
  const container = await ownContainer(client, { throughput: 700 });
  const answered = [];
  let alive = true;
  // Written until the service is gone; what was under way then may be there or not.
  const writers = Array.from({ length: 4 }, async (_, writer) => {
    for (let n = 0; alive; n += 1) {
      const pk = `${writer}-${n}`;
      const both = ["a", "b"].map((id) => ({ operationType: "Create", resourceBody: { id, pk, n } }));
      const done = await container.items.batch(both, pk).catch(() => undefined);
      if (done?.code !== 200) {
        return;
      }
      answered.push(pk);
    }
  });
  await container.items.create({ id: "1", pk: "kept", n: 1 });
  const { resource: kept } = await container.item("1", "kept").patch([{ op: "incr", path: "/n", value: 1 }]);
  while (answered.length < 100) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  await service.stop("SIGKILL");
  alive = false;
  client.dispose();
  await Promise.all(writers);
  service = await start(...data);
  client = service.client();
  const same = client.database(container.database.id).container(container.id);
  assert.deepEqual((await same.item("1", "kept").read()).resource, kept);
  assert.equal((await same.readOffer()).resource.content.offerThroughput, 700);
  const { resources } = await same.items.query("SELECT c.id, c.pk FROM c WHERE c.pk != 'kept' ORDER BY c.id").fetchAll();
  const parts = new Map();
  resources.forEach(({ id, pk }) => parts.set(pk, (parts.get(pk) ?? "") + id));
  assert.ok([...parts.values()].every((each) => each === "ab"), "a batch is there as a whole");
  const lost = answered.filter((pk) => !parts.has(pk));
  assert.deepEqual(lost, []);
  const changeFeedStartFrom = ChangeFeedStartFrom.Beginning("kept");
  const feed = await same.items.getChangeFeedIterator({ changeFeedStartFrom }).readNext();
  assert.deepEqual(feed.result.map((each) => each.n), [2]);
  client.dispose();
  await service.stop();
}

test("https with the certificate that the service made", async () => {
  const certificate = path.join(folder, "certificate");
  const service = await start("--certificate", certificate);
  const endpoint = service.endpoint.replace("http:", "https:");
  const ca = readFileSync(path.join(certificate, "certificate.pem"));
  const client = service.client({ endpoint, agent: new https.Agent({ ca }) });
  const container = await ownContainer(client);
  await container.items.create({ id: "1", pk: "p" });
  assert.equal((await container.item("1", "p").read()).resource.id, "1");
  client.dispose();
  await service.stop();
});

test("a clock that is a quarter of an hour off is refused", async () => {
  const service = await start();
  for (const minutes of [-16, 16]) {
    const client = service.client();
    mock.timers.enable({ apis: ["Date"], now: Date.now() + minutes * 60_000 });
    try {
      assert.equal((await failure(client.databases.readAll().fetchAll())).code, 403, `${minutes}`);
    } finally {
      mock.timers.reset();
      client.dispose();
    }
  }
  await service.stop();
});

test("requests that no SDK sends are refused in the shape that SDKs read", async () => {
  const service = await start();
  const client = service.client();
  const container = await ownContainer(client);
  const link = `dbs/${container.database.id}/colls/${container.id}`;
  const date = new Date().toUTCString();
  const send = async (method, type, resource, location, headers, body) => {
    const text = `${method.toLowerCase()}\n${type}\n${resource}\n${date.toLowerCase()}\n\n`;
    const proof = createHmac("sha256", Buffer.from(key, "base64")).update(text).digest("base64");
    const authorization = encodeURIComponent(`type=master&ver=1.0&sig=${proof}`);
    const answer = await fetch(`${service.endpoint}/${location}`, {
      method, body, headers: { authorization, "x-ms-date": date, ...headers },
    });
    const { code, message } = await answer.json();
    assert.equal(typeof message, "string");
    return [answer.status, Number(answer.headers.get("x-ms-substatus") ?? 0), code];
  };
  const own = { "x-ms-documentdb-partitionkey": '["p"]' };
  const item = '{"id":"1","pk":"p"}';
  const patch = { "content-type": "application/json_patch+json", ...own };
  const set = (target) => `{"operations":[{"op":"replace","path":"${target}","value":1}]}`;
  const docs = `${link}/docs`;
  const batch = { "x-ms-cosmos-is-batch-request": "True", "x-ms-cosmos-batch-atomic": "True", ...own };
  const create = { operationType: "Create", resourceBody: { id: "1", pk: "p" } };
  const elsewhere = { operationType: "Create", resourceBody: { id: "2", pk: "q" } };
  const large = { operationType: "Create", resourceBody: { id: "3", pk: "p", text: "x".repeat(2 << 20) } };
  await container.items.create({ id: "there", pk: "p" });
  for (const [what, expected, method, resource, location, headers, body] of [
    ["no date", [401, 0, "Unauthorized"], "GET", link, docs, { "x-ms-date": "" }],
    ["another signature", [401, 0, "Unauthorized"], "GET", "dbs/x", docs, {}],
    ["a token that is none", [401, 0, "Unauthorized"], "GET", link, docs, { authorization: "x" }],
    ["a key that is no JSON", [400, 0, "BadRequest"], "POST", link, docs, { "x-ms-documentdb-partitionkey": "p" }, item],
    ["a key of two values", [400, 0, "BadRequest"], "POST", link, docs, { "x-ms-documentdb-partitionkey": '["p","q"]' }, item],
    ["another key", [400, 1001, "BadRequest"], "POST", link, docs, { "x-ms-documentdb-partitionkey": '["q"]' }, item],
    ["no key", [400, 0, "BadRequest"], "POST", link, docs, {}, item],
    ["no JSON", [400, 0, "BadRequest"], "POST", link, docs, own, "{"],
    ["no object", [400, 0, "BadRequest"], "POST", link, docs, own, "[]"],
    ["no id", [400, 0, "BadRequest"], "POST", link, docs, own, '{"pk":"p"}'],
    ["a conflict", [409, 0, "Conflict"], "POST", link, docs, own, '{"id":"there","pk":"p"}'],
    ["a path that is not there", [400, 0, "BadRequest"], "PATCH", `${docs}/there`, `${docs}/there`, patch, set("/a/b")],
    ["an item that is not there", [404, 0, "NotFound"], "PATCH", `${docs}/none`, `${docs}/none`, patch, set("/a")],
    ["a version that is gone", [412, 0, "PreconditionFailed"], "DELETE", `${docs}/there`, `${docs}/there`, { ...own, "if-match": '"old"' }],
    ["a container that is not there", [404, 1003, "NotFound"], "POST", "dbs/js/colls/none", "dbs/js/colls/none/docs", own, item],
    ["a range that is not there", [410, 1002, "Gone"], "GET", link, docs, { "x-ms-documentdb-partitionkeyrangeid": "99" }],
    ["a broken position", [400, 0, "BadRequest"], "GET", link, docs, { "a-im": "Incremental Feed", "if-none-match": '"x"' }],
    ["a session that is ahead", [404, 1002, "NotFound"], "GET", `${docs}/there`, `${docs}/there`, { ...own, "x-ms-session-token": "0:-1#1000000" }],
    ["a session that is none", [400, 0, "BadRequest"], "GET", `${docs}/there`, `${docs}/there`, { ...own, "x-ms-session-token": "x" }],
    ["a batch of 101", [400, 0, "BadRequest"], "POST", link, docs, batch, JSON.stringify(Array(101).fill(create))],
    ["a batch across partitions", [400, 1001, "BadRequest"], "POST", link, docs, batch, JSON.stringify([create, elsewhere])],
    ["a batch of more than 2 MB", [413, 0, "RequestEntityTooLarge"], "POST", link, docs, batch, JSON.stringify([large])],
    ["a batch of nothing", [400, 0, "BadRequest"], "POST", link, docs, batch, "[]"],
    ["a batch of something else", [400, 0, "BadRequest"], "POST", link, docs, batch, '[{"operationType":"Sing"}]'],
    ["a broken continuation", [400, 0, "BadRequest"], "GET", link, docs, { "x-ms-continuation": "x" }],
    ["a method that is none", [405, 0, "MethodNotAllowed"], "PUT", link, docs, own, item],
  ]) {
    assert.deepEqual(await send(method, "docs", resource, location, headers, body), expected, what);
  }
  const { resources } = await container.items.query("SELECT VALUE c.id FROM c").fetchAll();
  assert.deepEqual(resources, ["there"]);
  client.dispose();
  await service.stop();
});
