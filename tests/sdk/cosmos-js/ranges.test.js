// Several partition key ranges: the SDK plans queries, asks every range and puts the parts together.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { ChangeFeedStartFrom } from "@azure/cosmos";

import { failure, ownContainer, start } from "./service.js";

const documents = Array.from({ length: 60 }, (_, n) => ({
  id: `${n}`,
  pk: `p${n % 20}`,
  n: (n * 7) % 60,
  kind: n % 3 === 0 ? "fizz" : "none",
  tags: n % 2 === 0 ? ["even", "all"] : ["all"],
}));

let service, client, container;

before(async () => {
  service = await start("--ranges", "4");
  client = service.client();
  container = await ownContainer(client);
  await Promise.all(documents.map((document) => container.items.create(document)));
});
after(async () => {
  client?.dispose();
  await service?.stop();
});

const run = async (query, options = {}) =>
  (await container.items.query(query, options).fetchAll()).resources;

const sorted = [...documents].sort((a, b) => a.n - b.n);

test("there are four ranges that cover everything", async () => {
  const { resources } = await container.readPartitionKeyRanges().fetchAll();
  assert.equal(resources.length, 4);
  assert.equal(resources[0].minInclusive, "");
  assert.equal(resources[3].maxExclusive, "FF");
  for (const [index, range] of resources.slice(1).entries()) {
    assert.equal(range.minInclusive, resources[index].maxExclusive);
  }
});

test("filters, orders and slices", async () => {
  assert.equal((await run("SELECT * FROM c WHERE c.kind = 'fizz'")).length, 20);
  assert.deepEqual(
    await run("SELECT VALUE c.n FROM c ORDER BY c.n"),
    sorted.map((each) => each.n),
  );
  assert.deepEqual(await run("SELECT TOP 3 VALUE c.n FROM c ORDER BY c.n DESC"), [59, 58, 57]);
  assert.deepEqual(await run("SELECT VALUE c.n FROM c ORDER BY c.n OFFSET 10 LIMIT 3"), [10, 11, 12]);
  const byTwo = await run("SELECT c.kind, c.n FROM c ORDER BY c.kind ASC, c.n DESC");
  const expected = [...documents].sort((a, b) => a.kind.localeCompare(b.kind) || b.n - a.n);
  assert.deepEqual(byTwo, expected.map(({ kind, n }) => ({ kind, n })));
  const kinds = await run("SELECT DISTINCT VALUE c.kind FROM c");
  assert.deepEqual(kinds.sort(), ["fizz", "none"]);
});

test("pages add up", async () => {
  const iterator = container.items.query("SELECT VALUE c.n FROM c ORDER BY c.n", { maxItemCount: 7 });
  const found = [];
  while (iterator.hasMoreResults()) {
    found.push(...((await iterator.fetchNext()).resources ?? []));
  }
  assert.deepEqual(found, sorted.map((each) => each.n));
});

test("aggregates and groups", async () => {
  assert.deepEqual(await run("SELECT VALUE COUNT(1) FROM c"), [60]);
  assert.deepEqual(await run("SELECT VALUE SUM(c.n) FROM c"), [1770]);
  assert.deepEqual(await run("SELECT VALUE AVG(c.n) FROM c WHERE c.n < 10"), [4.5]);
  assert.deepEqual(await run("SELECT VALUE MIN(c.n) FROM c WHERE c.n > 5"), [6]);
  assert.deepEqual(await run("SELECT VALUE MAX(c.n) FROM c"), [59]);
  const groups = await run(
    "SELECT c.kind, COUNT(1) AS n, MIN(c.n) AS low, AVG(c.n) AS mean FROM c GROUP BY c.kind",
  );
  groups.sort((a, b) => a.kind.localeCompare(b.kind));
  const fizz = documents.filter((each) => each.kind === "fizz").map((each) => each.n);
  const mean = fizz.reduce((a, b) => a + b) / fizz.length;
  assert.equal(groups.length, 2);
  assert.deepEqual(groups[0], { kind: "fizz", n: 20, low: Math.min(...fizz), mean });
});

test("joins, subqueries and parameters", async () => {
  assert.deepEqual(await run("SELECT VALUE COUNT(1) FROM c JOIN t IN c.tags WHERE t = 'even'"), [30]);
  const query = {
    query:
      "SELECT VALUE c.id FROM c WHERE EXISTS(SELECT VALUE t FROM t IN c.tags WHERE t = @tag) " +
      "AND c.n < @most ORDER BY c.n",
    parameters: [{ name: "@tag", value: "even" }, { name: "@most", value: 20 }],
  };
  const even = sorted.filter((each) => each.tags.includes("even") && each.n < 20);
  assert.deepEqual(await run(query), even.map((each) => each.id));
});

test("what cannot be answered is refused by name", async () => {
  for (const [text, named] of [
    ["SELECT * FROM c WHERE SOUNDEX(c.a) = 'x'", "SOUNDEX"],
    ["SELECT VALUE COUNT(1) + 1 FROM c", "aggregates"],
    ["SELECT c.id, COUNT(1) FROM c GROUP BY c.kind", "GROUP BY"],
    ["SELECT * FROM c WHERE", "unexpected end"],
    ["SELECT * FROM d WHERE c.a = 1", "'c'"],
  ]) {
    const error = await failure(run(text));
    assert.equal(error.code, 400, text);
    assert.match(error.body?.message ?? error.message, new RegExp(named), text);
  }
});

test("every range has its own feed, a partition has one", async () => {
  const ranges = await container.getFeedRanges();
  assert.equal(ranges.length, 4);
  const found = [];
  for (const range of ranges) {
    const options = { changeFeedStartFrom: ChangeFeedStartFrom.Beginning(range), maxItemCount: 5 };
    const iterator = container.items.getChangeFeedIterator(options);
    for (;;) {
      const page = await iterator.readNext();
      if (page.statusCode === 304) {
        break;
      }
      found.push(...page.result.map((each) => each.id));
    }
  }
  assert.deepEqual(found.sort(), documents.map((each) => each.id).sort());
});

test("reads see what was written in their session", async () => {
  const { headers } = await container.items.create({ id: "session", pk: "p1", n: 99, tags: [] });
  assert.match(headers["x-ms-session-token"], /^[0-3]:-1#\d+$/);
  const { resource } = await container.item("session", "p1").read();
  assert.equal(resource.n, 99);
  await container.item("session", "p1").delete();
});
