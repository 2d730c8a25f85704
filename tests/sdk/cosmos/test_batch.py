"""Transactional batches."""

import pytest
from azure.cosmos.exceptions import (
    CosmosBatchOperationError,
    CosmosHttpResponseError,
    CosmosResourceNotFoundError,
)


def codes(error):
    return [response["statusCode"] for response in error.value.operation_responses]


def feed_of(items, pk):
    return list(items.query_items_change_feed(start_time="Beginning", partition_key=pk))


def test_all_operations_together(items, pk):
    stored = items.create_item({"id": "old", "pk": pk, "n": 1})
    items.create_item({"id": "gone", "pk": pk})
    results = items.execute_item_batch(
        [
            ("create", ({"id": "order", "pk": pk, "n": 1},)),
            ("upsert", ({"id": "event", "pk": pk},)),
            ("replace", ("old", {"id": "old", "pk": pk, "n": 2}), {"if_match_etag": stored["_etag"]}),
            ("read", ("order",)),
            ("patch", ("order", [{"op": "incr", "path": "/n", "value": 4}]),
             {"filter_predicate": "from c where c.n = 1"}),
            ("delete", ("gone",)),
        ],
        pk,
    )
    assert [result["statusCode"] for result in results] == [201, 201, 200, 200, 200, 204]
    assert results[3]["resourceBody"]["n"] == 1, "later operations see earlier ones"
    assert results[4]["resourceBody"]["n"] == 5
    assert results[0]["eTag"] and results[0]["requestCharge"] > 0
    changes = {change["id"]: change["_lsn"] for change in feed_of(items, pk)}
    assert set(changes) == {"order", "event", "old"}, "what was deleted is absent"
    assert len(set(changes.values())) == 1, "a batch has one log sequence number"


def test_nothing_of_a_failed_batch_stays(items, pk):
    items.create_item({"id": "taken", "pk": pk})
    before = feed_of(items, pk)
    with pytest.raises(CosmosBatchOperationError) as failed:
        items.execute_item_batch(
            [
                ("create", ({"id": "a", "pk": pk},)),
                ("upsert", ({"id": "taken", "pk": pk, "n": 9},)),
                ("create", ({"id": "taken", "pk": pk},)),
                ("delete", ("taken",)),
            ],
            pk,
        )
    assert codes(failed) == [424, 424, 409, 424]
    assert failed.value.error_index == 2
    with pytest.raises(CosmosResourceNotFoundError):
        items.read_item("a", pk)
    assert feed_of(items, pk) == before


@pytest.mark.parametrize(
    "operation, expected",
    [
        (("replace", ("x", {"id": "x", "pk": "PK"}), {"if_match_etag": '"stale"'}), 412),
        (("delete", ("x",), {"if_match_etag": '"stale"'}), 412),
        (("replace", ("none", {"id": "none", "pk": "PK"})), 404),
        (("read", ("none",)), 404),
        (("patch", ("x", [{"op": "set", "path": "/n", "value": 2}]),
          {"filter_predicate": "from c where c.n = 2"}), 412),
        (("patch", ("x", [{"op": "replace", "path": "/none", "value": 2}])), 400),
    ],
)
def test_each_kind_of_failure_rolls_back(items, pk, operation, expected):
    items.create_item({"id": "x", "pk": pk, "n": 1})
    kind, arguments, *options = operation
    arguments = tuple(
        {**argument, "pk": pk} if isinstance(argument, dict) else argument for argument in arguments
    )
    with pytest.raises(CosmosBatchOperationError) as failed:
        items.execute_item_batch(
            [("create", ({"id": "first", "pk": pk},)), (kind, arguments, *options)], pk
        )
    assert codes(failed) == [424, expected]
    assert [change["id"] for change in feed_of(items, pk)] == ["x"]


def test_limits(items, pk):
    hundred = [("create", ({"id": str(n), "pk": pk},)) for n in range(100)]
    assert len(items.execute_item_batch(hundred, pk)) == 100
    reads = [("read", (str(n),)) for n in range(100)]
    for operations, expected in [
        (reads + [("read", ("0",))], 400),
        ([("create", ({"id": f"l{n}", "pk": pk, "t": "x" * 700_000},)) for n in range(3)], 413),
        ([("create", ({"id": "other", "pk": pk + "x"},))], 400),
    ]:
        with pytest.raises(CosmosHttpResponseError) as refused:
            items.execute_item_batch(operations, pk)
        assert refused.value.status_code == expected
