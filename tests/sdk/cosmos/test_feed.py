"""The change feed and time to live."""

import datetime

from azure.cosmos import PartitionKey
from conftest import RANGES, wait_for


def ids(changes):
    return [change["id"] for change in changes]


class Reader:
    """Polls a change feed from where it last stopped."""

    def __init__(self, container, **options):
        self.container, self.options = container, options
        self.position = None

    def poll(self, **extra):
        options = {"continuation": self.position} if self.position else self.options
        changes = list(self.container.query_items_change_feed(**options, **extra))
        # Where every range stands, and in which mode; a single answer knows its own range only.
        self.position = self.container.client_connection.last_response_headers["etag"]
        return changes


def test_latest_versions_in_the_order_of_writing(container):
    reader = Reader(container, start_time="Beginning")
    for name in "abc":
        container.create_item({"id": name, "pk": name, "n": 1})
    container.upsert_item({"id": "a", "pk": "a", "n": 2})
    container.delete_item("b", "b")
    changes = reader.poll()
    assert ids(changes) == ["c", "a"], "updated items move to the end, deleted ones are absent"
    assert changes[1]["n"] == 2
    assert changes[0]["_lsn"] < changes[1]["_lsn"]
    assert reader.poll() == []
    container.patch_item("c", "c", [{"op": "set", "path": "/n", "value": 3}])
    assert [(change["id"], change["n"]) for change in reader.poll()] == [("c", 3)]
    assert reader.poll() == []


def test_now_and_points_in_time(container):
    container.create_item({"id": "before", "pk": "x"})
    now = Reader(container, start_time="Now")
    assert now.poll() == []
    container.create_item({"id": "after", "pk": "x"})
    assert ids(now.poll()) == ["after"]
    hour = datetime.timedelta(hours=1)
    past = datetime.datetime.now(datetime.timezone.utc) - hour
    assert ids(Reader(container, start_time=past).poll()) == ["before", "after"]
    assert Reader(container, start_time=past + 2 * hour).poll() == []


def test_one_partition_only(container):
    for n in range(6):
        container.create_item({"id": str(n), "pk": f"p{n % 2}"})
    assert ids(Reader(container, start_time="Beginning", partition_key="p1").poll()) == list("135")
    ranges = list(container.read_feed_ranges())
    assert len(ranges) == RANGES
    parts = [Reader(container, start_time="Beginning", feed_range=each).poll() for each in ranges]
    assert sorted(ids(change for part in parts for change in part)) == list("012345")


def test_pages_never_split_a_batch(container):
    for name in ["a", "b"]:
        container.execute_item_batch(
            [("create", ({"id": f"{name}{n}", "pk": "x"},)) for n in range(3)], "x"
        )
    pages = container.query_items_change_feed(
        start_time="Beginning", max_item_count=2
    ).by_page()
    sizes = [len(page) for page in map(list, pages) if page]
    assert sizes == [3, 3]


def test_expired_items_vanish_everywhere(container):
    container.create_item({"id": "short", "pk": "x", "ttl": 1, "type": "t"})
    container.create_item({"id": "long", "pk": "x", "ttl": 3600, "type": "t"})
    container.create_item({"id": "ever", "pk": "x", "type": "t"})

    def left():
        return sorted(container.query_items("SELECT VALUE c.id FROM c", partition_key="x"))

    wait_for(lambda: left() == ["ever", "long"], what="expiry of one item")
    assert sorted(ids(Reader(container, start_time="Beginning").poll())) == ["ever", "long"]
    assert container.create_item({"id": "short", "pk": "x"})["id"] == "short", "the id is free"
    container.patch_item("long", "x", [{"op": "set", "path": "/ttl", "value": 1}])
    wait_for(lambda: left() == ["ever", "short"], what="expiry of a patched item")


def test_the_default_lifetime_of_a_container(database, container):
    container.create_item({"id": "kept", "pk": "x", "ttl": -1})
    container.create_item({"id": "dropped", "pk": "x"})
    database.replace_container(container, PartitionKey(path="/pk"), default_ttl=1)
    wait_for(
        lambda: ids(container.read_all_items()) == ["kept"], what="expiry by the default lifetime"
    )


def test_without_a_default_items_never_expire(database, pk):
    people = database.get_container_client("people")
    people.create_item({"id": "t", "pk": pk, "ttl": 1})
    other = database.create_container_if_not_exists("feed-ttl", PartitionKey(path="/pk"), default_ttl=-1)
    other.create_item({"id": "t", "pk": pk, "ttl": 1})
    gone = lambda: not list(other.query_items("SELECT * FROM c", partition_key=pk))
    wait_for(gone, what="expiry next door")
    assert people.read_item("t", pk)["ttl"] == 1
    database.delete_container("feed-ttl")


def test_all_versions_and_deletes(database):
    container = database.create_container(
        "all-versions",
        PartitionKey(path="/pk"),
        default_ttl=-1,
        change_feed_policy={"retentionDuration": 5},
    )
    container.create_item({"id": "old", "pk": "p"})
    reader = Reader(container, start_time="Now", mode="AllVersionsAndDeletes", partition_key="p")
    assert reader.poll() == []
    container.create_item({"id": "a", "pk": "p", "n": 1})
    container.patch_item("a", "p", [{"op": "incr", "path": "/n", "value": 1}])
    container.delete_item("a", "p")
    container.create_item({"id": "b", "pk": "p", "n": 5, "ttl": 1})
    changes = []

    def expired():
        changes.extend(reader.poll())
        return len(changes) == 5

    wait_for(expired, what="removal of what has expired")
    kinds = [change["metadata"]["operationType"] for change in changes]
    assert kinds == ["create", "replace", "delete", "create", "delete"]
    assert [(each.get("current") or each["previous"])["n"] for each in changes] == [1, 2, 2, 5, 5]
    known = [change["metadata"] for change in changes]
    assert "previousImageLSN" not in known[0]
    assert known[1]["previousImageLSN"] == known[0]["lsn"]
    assert known[2]["previousImageLSN"] == known[1]["lsn"]
    assert known[2]["id"] == "a" and known[2]["partitionKey"] == {"pk": "p"}
    assert [each["timeToLiveExpired"] for each in known if "timeToLiveExpired" in each] == [
        False,
        True,
    ]
    assert reader.poll() == []
    whole = Reader(container, start_time="Now", mode="AllVersionsAndDeletes")
    assert whole.poll() == []
    for name in "xyz":
        container.create_item({"id": name, "pk": name})
    found = {change["current"]["id"] for change in whole.poll()}
    assert found == set("xyz"), "every range tells its own"
    database.delete_container("all-versions")
