// The query language over one partition and over all, page by page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { failure, ownContainer, start } from "./service.js";

const people = [
  { id: "1", pk: "a", type: "p", name: "Ada", age: 36, tags: ["x", "y"], at: "2026-01-03" },
  { id: "2", pk: "a", type: "p", name: "bob", age: 20, tags: [], at: "2026-01-01" },
  { id: "3", pk: "b", type: "p", name: "Cleo", age: null, tags: ["y"], at: "2026-01-02" },
  { id: "4", pk: "b", type: "q", name: "Dan_%", age: "old", at: "2026-01-04" },
  { id: "5", pk: "c", type: "q", address: { city: "Åbo", zip: { code: 7 } }, at: "2026-01-05" },
];

let service, client, container;

before(async () => {
  service = await start("--max-query-bytes", "20000");
  client = service.client();
  container = await ownContainer(client);
  for (const person of people) {
    await container.items.create(person);
  }
});
after(async () => {
  client?.dispose();
  await service?.stop();
});

const run = async (query, options = {}) =>
  (await container.items.query(query, options).fetchAll()).resources;

test("filters", async () => {
  for (const [where, expected] of [
    ["c.age > 25", "1"],
    ["c.age != 20", "1"],
    ["NOT (c.age = 20)", "1"],
    ["c.age = null", "3"],
    ["NOT IS_DEFINED(c.age)", "5"],
    ["IS_NULL(c.age) OR IS_STRING(c.age)", "34"],
    ["c.name IN ('Ada', 'Cleo')", "13"],
    ["c.age BETWEEN 20 AND 30", "2"],
    ["c.name LIKE 'Dan!_!%' ESCAPE '!'", "4"],
    ["STARTSWITH(c.name, 'B', true)", "2"],
    ["CONTAINS(c.name, 'eo') OR ENDSWITH(c.name, 'a')", "13"],
    ["ARRAY_CONTAINS(c.tags, 'y')", "13"],
    ["ARRAY_LENGTH(c.tags) = 0", "2"],
    ['c["address"]["city"] = "Åbo" AND c.address.zip.code = 7', "5"],
    ["EXISTS(SELECT VALUE t FROM t IN c.tags WHERE t = 'x')", "1"],
    ["(SELECT VALUE COUNT(1) FROM t IN c.tags) = 2", "1"],
    ["(c.nick ?? c.name) = 'bob'", "2"],
    ["c.pk = 'b' ? c.age = 'old' : false", "4"],
    ["LENGTH(c.name) = 3 AND UPPER(c.name) = 'BOB'", "2"],
    ["c.age % 7 = 1 AND c.age * 2 - 2 = 70", "1"],
  ]) {
    const found = await run(`SELECT VALUE c.id FROM c WHERE ${where} ORDER BY c.id`);
    assert.equal(found.join(""), expected, where);
  }
});

test("results", async () => {
  const byName = (a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b));
  for (const [text, expected] of [
    ["SELECT c.id, c.address.city FROM c WHERE c.id = '5'", [{ id: "5", city: "Åbo" }]],
    ["SELECT VALUE {n: c.name, l: [c.id, 1]} FROM c WHERE c.id = '1'", [{ n: "Ada", l: ["1", 1] }]],
    ["SELECT VALUE c.nothing FROM c", []],
    ["SELECT VALUE ARRAY(SELECT VALUE t FROM t IN c.tags) FROM c WHERE c.id = '1'", [["x", "y"]]],
    ["SELECT c.id, t FROM c JOIN t IN c.tags WHERE c.pk = 'a'", [{ id: "1", t: "x" }, { id: "1", t: "y" }]],
    ["SELECT VALUE c.id FROM c ORDER BY c.pk DESC, c.at ASC", ["5", "3", "4", "2", "1"]],
    ["SELECT TOP 2 VALUE c.id FROM c ORDER BY c.at DESC", ["5", "4"]],
    ["SELECT VALUE c.id FROM c ORDER BY c.at OFFSET 1 LIMIT 2", ["3", "1"]],
    ["SELECT VALUE COUNT(c.name) FROM c", [4]],
    ["SELECT VALUE SUM(c.age) FROM c WHERE IS_NUMBER(c.age)", [56]],
    ["SELECT VALUE AVG(c.age) FROM c WHERE IS_NUMBER(c.age)", [28]],
    ["SELECT VALUE MIN(c.at) FROM c", ["2026-01-01"]],
    ["SELECT VALUE MAX(c.at) FROM c WHERE c.pk = 'a'", ["2026-01-03"]],
    ["SELECT VALUE COUNT(1) FROM c WHERE c.id = 'none'", [0]],
  ]) {
    assert.deepEqual(await run(text), expected, text);
  }
  const groups = await run("SELECT c.type, COUNT(1) AS n, MAX(c.at) AS last FROM c GROUP BY c.type");
  assert.deepEqual(groups.sort(byName), [
    { type: "p", n: 3, last: "2026-01-03" },
    { type: "q", n: 2, last: "2026-01-05" },
  ]);
  assert.deepEqual((await run("SELECT DISTINCT VALUE c.pk FROM c")).sort(), ["a", "b", "c"]);
  assert.deepEqual(await run("SELECT DISTINCT VALUE c.pk FROM c ORDER BY c.pk DESC"), ["c", "b", "a"]);
  const query = {
    query: "SELECT VALUE c.id FROM c WHERE c.type = @type AND c.name != @name",
    parameters: [{ name: "@type", value: "p" }, { name: "@name", value: "'; DROP" }],
  };
  assert.deepEqual(await run(query, { partitionKey: "a" }), ["1", "2"]);
});

test("pages go on where the last one ended, in another client too", async () => {
  for (const text of ["SELECT VALUE c.id FROM c", "SELECT VALUE c.id FROM c ORDER BY c.at DESC"]) {
    const options = { partitionKey: "a", maxItemCount: 1 };
    const whole = await run(text, options);
    const found = [];
    let continuationToken;
    do {
      const other = service.client();
      const same = other.database(container.database.id).container(container.id);
      const page = await same.items.query(text, { ...options, continuationToken }).fetchNext();
      found.push(...(page.resources ?? []));
      continuationToken = page.continuationToken;
      other.dispose();
    } while (continuationToken);
    assert.deepEqual([found, found.length], [whole, 2], text);
  }
  const broken = container.items.query("SELECT * FROM c", { partitionKey: "a", continuationToken: "no" });
  assert.equal((await failure(broken.fetchNext())).code, 400);
});

test("what is wrong is named", async () => {
  for (const [text, named] of [
    ["SELECT", "unexpected end"],
    ["SELECT * FROM c WHERE c.a = @missing", "@missing"],
    ["SELECT nosuch(c.a) FROM c", "nosuch"],
    ["SELECT * FROM c WHERE d.a = 1", "'d'"],
    ["SELECT c.type, COUNT(1) AS n FROM c GROUP BY c.type ORDER BY c.type", "GROUP BY"],
  ]) {
    const error = await failure(run(text, { partitionKey: "a" }));
    assert.equal(error.code, 400, text);
    assert.match(error.body?.message ?? error.message, new RegExp(named, "i"), text);
  }
});

test("a query that would hold too much is refused, others go on", async () => {
  const own = await ownContainer(client);
  for (let n = 0; n < 30; n += 1) {
    await own.items.create({ id: `${n}`, pk: "p", text: `${n}`.repeat(1000) });
  }
  const options = { partitionKey: "p" };
  for (const text of [
    "SELECT DISTINCT VALUE c.text FROM c",
    "SELECT c.text, COUNT(1) AS n FROM c GROUP BY c.text",
    "SELECT VALUE x FROM c JOIN x IN [c.text] ORDER BY c.text",
    "SELECT DISTINCT VALUE c.text FROM c OFFSET 20 LIMIT 1",
  ]) {
    const error = await failure(own.items.query(text, options).fetchAll());
    assert.equal(error.code, 400, text);
    assert.match(error.body?.message ?? error.message, /more than 20000 bytes/, text);
  }
  const count = await own.items.query("SELECT VALUE COUNT(1) FROM c", options).fetchAll();
  assert.deepEqual(count.resources, [30]);
});
