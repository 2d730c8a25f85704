"""The service as it can be started: several ranges, kept data, tokens, keys, faults."""

import base64
import hashlib
import hmac
import json
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from azure.core.credentials import AccessToken
from azure.cosmos import CosmosClient, PartitionKey
from azure.cosmos.exceptions import CosmosHttpResponseError
from conftest import EMULATOR_KEY, served

TENANT = "7b1999a1-dfd7-440e-8204-00170979b984"


@pytest.fixture(scope="module")
def ranged(tmp_path_factory):
    """A container in four ranges with 40 items in 20 partitions."""
    with served(tmp_path_factory.mktemp("ranges"), "--ranges", "4") as endpoint:
        with CosmosClient(endpoint, EMULATOR_KEY) as client:
            container = client.get_database_client("sdk").create_container(
                "ranged", PartitionKey(path="/pk")
            )
            for n in range(40):
                container.create_item({"id": str(n), "pk": f"p{n % 20}", "n": n, "half": n // 2})
            yield container


@pytest.mark.parametrize(
    "text, expected",
    [
        ("SELECT VALUE c.n FROM c ORDER BY c.n", list(range(40))),
        ("SELECT VALUE c.n FROM c ORDER BY c.n DESC OFFSET 3 LIMIT 4", [36, 35, 34, 33]),
        ("SELECT TOP 2 VALUE c.n FROM c ORDER BY c.n", [0, 1]),
        ("SELECT VALUE c.n FROM c ORDER BY c.half DESC, c.n ASC OFFSET 0 LIMIT 4", [38, 39, 36, 37]),
        ("SELECT VALUE COUNT(1) FROM c WHERE c.n >= 10", [30]),
        ("SELECT VALUE SUM(c.n) FROM c", [780]),
        ("SELECT VALUE MIN(c.n) FROM c", [0]),
        ("SELECT VALUE MAX(c.n) FROM c", [39]),
        ("SELECT VALUE AVG(c.n) FROM c", [19.5]),
    ],
)
def test_the_sdk_puts_ranges_together(ranged, text, expected):
    assert list(ranged.query_items(text, enable_cross_partition_query=True)) == expected


def test_ranges_share_out_the_items(ranged):
    ranges = list(ranged.read_feed_ranges())
    assert len(ranges) == 4
    feeds = [
        list(ranged.query_items_change_feed(feed_range=each, start_time="Beginning"))
        for each in ranges
    ]
    assert sum(map(len, feeds)) == 40 and all(feeds)
    own = ranged.feed_range_from_partition_key("p7")
    found = list(ranged.query_items_change_feed(feed_range=own, start_time="Beginning"))
    assert {item["pk"] for item in found} == {"p7"}


def test_crossing_partitions_must_be_asked_for(ranged):
    with pytest.raises(CosmosHttpResponseError) as refused:
        list(ranged.query_items("SELECT * FROM c"))
    assert refused.value.status_code == 400


def test_a_batch_of_more_than_a_hundred_is_refused(ranged):
    operations = [("create", ({"id": f"m{n}", "pk": "m"},)) for n in range(101)]
    with pytest.raises(CosmosHttpResponseError) as refused:
        ranged.execute_item_batch(operations, "m")
    assert refused.value.status_code == 400


def test_everything_is_there_after_a_kill(tmp_path):
    data = ("--data", str(tmp_path / "data"))
    with served(tmp_path, *data) as endpoint:
        client = CosmosClient(endpoint, EMULATOR_KEY)
        database = client.create_database("kept")
        container = database.create_container("c", PartitionKey(path="/pk"), offer_throughput=700)
        before = [container.upsert_item({"id": str(n), "pk": "p", "n": n}) for n in range(20)]
        container.delete_item("0", "p")
        feed = list(container.query_items_change_feed(start_time="Beginning"))
        token = container.client_connection.last_response_headers["etag"]
    with served(tmp_path, *data) as endpoint:
        client = CosmosClient(endpoint, EMULATOR_KEY)
        container = client.get_database_client("kept").get_container_client("c")
        assert [container.read_item(str(n), "p") for n in range(1, 20)] == before[1:]
        assert list(container.query_items_change_feed(start_time="Beginning")) == feed
        assert list(container.query_items_change_feed(continuation=token)) == []
        assert container.get_throughput().offer_throughput == 700
        with pytest.raises(CosmosHttpResponseError) as missing:
            container.read_item("0", "p")
        assert missing.value.status_code == 404
        assert container.create_item({"id": "0", "pk": "p"})["_rid"] not in {
            item["_rid"] for item in before
        }


class Developer:
    """Mints tokens with the account key, as development tools do."""

    def __init__(self, tenant):
        self.tenant = tenant

    def get_token(self, *_, **__):
        def encode(part):
            return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

        now = int(time.time())
        header = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
        claims = {"tid": self.tenant, "aud": "https://cosmos.azure.com", "exp": now + 600}
        signed = f"{header}.{encode(json.dumps(claims).encode())}"
        key = base64.b64decode(EMULATOR_KEY)
        proof = encode(hmac.new(key, signed.encode(), hashlib.sha256).digest())
        return AccessToken(f"{signed}.{proof}", now + 600)


def test_development_tokens_of_the_configured_tenant(tmp_path):
    # The SDK sends tokens over https only.
    certificate = tmp_path / "certificate"
    options = ("--entra-tenant", TENANT, "--certificate", str(certificate))
    with served(tmp_path, *options) as endpoint:
        endpoint = endpoint.replace("http:", "https:")
        trusted = str(certificate / "certificate.pem")
        with_key = CosmosClient(endpoint, EMULATOR_KEY, connection_verify=trusted)
        assert [each["id"] for each in with_key.list_databases()] == ["sdk"]
        client = CosmosClient(endpoint, Developer(TENANT), connection_verify=trusted)
        items = client.get_database_client("sdk").get_container_client("items")
        assert items.create_item({"id": "1", "pk": "p"})["id"] == "1"
        with pytest.raises(CosmosHttpResponseError) as refused:
            client.create_database("no")
        assert (refused.value.status_code, refused.value.sub_status) == (403, 5300)
        with pytest.raises(CosmosHttpResponseError) as stranger:
            CosmosClient(endpoint, Developer("another"), connection_verify=trusted)
        assert stranger.value.status_code == 401


def test_the_explorer_shows_what_is_there(account, items, pk):
    items.create_item({"id": "seen", "pk": pk})

    def get(path):
        with urllib.request.urlopen(account[0] + path) as answer:
            return answer.read().decode()

    state = json.loads(get("/admin/state"))
    database = next(each for each in state["databases"] if each["id"] == "sdk")
    container = next(each for each in database["containers"] if each["id"] == "items")
    assert container["items"] >= 1 and container["requestUnits"] >= 5
    query = urllib.parse.quote(f"SELECT * FROM c WHERE c.pk = '{pk}'")
    page = json.loads(get(f"/admin/dbs/sdk/colls/items/docs?query={query}"))
    assert [item["id"] for item in page["items"]] == ["seen"]
    assert 'cosmos_items{database="sdk",container="items"}' in get("/metrics")
    with pytest.raises(urllib.error.HTTPError) as missing:
        get("/admin/faults")
    assert missing.value.code == 404
