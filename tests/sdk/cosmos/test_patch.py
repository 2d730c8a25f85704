"""Partial document update."""

import pytest
from azure.cosmos.exceptions import CosmosHttpResponseError, CosmosResourceNotFoundError


@pytest.fixture
def item(items, pk):
    items.create_item(
        {
            "id": "p",
            "pk": pk,
            "n": 1,
            "price": 0.1,
            "text": "x",
            "list": [1, 2, 3],
            "nested": {"a": {"b": 1}, "x/y~z": 1},
            "state": "pending",
        }
    )

    def patch(*operations, **options):
        return items.patch_item("p", pk, list(operations), **options)

    return patch


def refused(call):
    with pytest.raises(CosmosHttpResponseError) as error:
        call()
    return error.value.status_code


def test_every_operation(item):
    assert item({"op": "add", "path": "/new", "value": {"a": 1}})["new"] == {"a": 1}
    assert item({"op": "add", "path": "/list/1", "value": 9})["list"] == [1, 9, 2, 3]
    assert item({"op": "add", "path": "/list/-", "value": 4})["list"] == [1, 9, 2, 3, 4]
    assert item({"op": "set", "path": "/list/0", "value": 0})["list"] == [0, 9, 2, 3, 4]
    assert item({"op": "set", "path": "/nested/a/c", "value": None})["nested"]["a"]["c"] is None
    assert item({"op": "set", "path": "/nested/x~1y~0z", "value": 2})["nested"]["x/y~z"] == 2
    assert item({"op": "replace", "path": "/text", "value": "y"})["text"] == "y"
    assert item({"op": "remove", "path": "/list/0"})["list"] == [9, 2, 3, 4]
    assert item({"op": "incr", "path": "/n", "value": 5})["n"] == 6
    assert item({"op": "incr", "path": "/n", "value": -0.5})["n"] == 5.5
    assert item({"op": "incr", "path": "/counter", "value": 3})["counter"] == 3
    moved = item({"op": "move", "from": "/text", "path": "/nested/text"})
    assert "text" not in moved and moved["nested"]["text"] == "y"
    assert item({"op": "set", "path": "/ttl", "value": 3600})["ttl"] == 3600


def test_operations_are_atomic_and_in_order(item, items, pk):
    result = item(
        {"op": "add", "path": "/log", "value": []},
        {"op": "add", "path": "/log/-", "value": "first"},
        {"op": "incr", "path": "/n", "value": 1},
    )
    assert result["log"] == ["first"] and result["n"] == 2
    before = items.read_item("p", pk)
    bad = {"op": "replace", "path": "/missing", "value": 1}
    assert refused(lambda: item({"op": "incr", "path": "/n", "value": 1}, bad)) == 400
    assert items.read_item("p", pk) == before


def test_a_false_condition_changes_nothing(item, items, pk):
    claim = {"op": "set", "path": "/state", "value": "processing"}
    condition = "from c where c.state = 'pending' and c.n = 1"
    claimed = item(claim, filter_predicate=condition)
    assert claimed["state"] == "processing"
    assert refused(lambda: item(claim, filter_predicate=condition)) == 412
    assert items.read_item("p", pk)["_etag"] == claimed["_etag"]
    undefined = "from c where c.nothing = 1"
    assert refused(lambda: item(claim, filter_predicate=undefined)) == 412
    case = "from c where c.state = 'PROCESSING'"
    assert refused(lambda: item(claim, filter_predicate=case)) == 412
    either = "FROM x WHERE x.state IN ('processing', 'done') AND NOT IS_DEFINED(x.gone)"
    assert item({"op": "set", "path": "/state", "value": "done"}, filter_predicate=either)
    assert refused(lambda: item(claim, filter_predicate="from c where c.")) == 400
    assert refused(lambda: item(claim, filter_predicate="where c.n = 1")) == 400


def test_limits_and_forbidden_targets(item, items, pk):
    one = {"op": "set", "path": "/x", "value": 1}
    assert item(*[one] * 10)["x"] == 1
    assert refused(lambda: item(*[one] * 11)) == 400
    assert refused(lambda: item()) == 400
    before = items.read_item("p", pk)
    for path in ["/id", "/pk", "/pk/deep", "/_ts", "/_etag", "/_rid", "/_self", "/_attachments"]:
        assert refused(lambda: item({"op": "set", "path": path, "value": "1"})) == 400, path
    for operation in [
        {"op": "add", "path": "/list/9", "value": 1},
        {"op": "add", "path": "/no/where", "value": 1},
        {"op": "set", "path": "/text/deep", "value": 1},
        {"op": "remove", "path": "/missing"},
        {"op": "incr", "path": "/text", "value": 1},
        {"op": "incr", "path": "/n", "value": "1"},
        {"op": "move", "from": "/missing", "path": "/x"},
        {"op": "move", "from": "/nested", "path": "/nested/a"},
        {"op": "move", "from": "/pk", "path": "/x"},
        {"op": "replace", "path": "", "value": {}},
        {"op": "unknown", "path": "/x", "value": 1},
        {"op": "set", "path": "/ttl", "value": 0},
    ]:
        assert refused(lambda: item(operation)) == 400, operation
    assert items.read_item("p", pk) == before


def test_a_missing_item_is_404(items, pk):
    with pytest.raises(CosmosResourceNotFoundError):
        items.patch_item("none", pk, [{"op": "set", "path": "/x", "value": 1}])
