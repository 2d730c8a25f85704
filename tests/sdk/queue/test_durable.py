"""What was answered outlives the process, however that ends. Azurite in memory has nothing to show."""

import os
import signal

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.queue import QueueClient
from conftest import IS_AZURITE, ONCE, stand_in, string_for

pytestmark = pytest.mark.skipif(
    IS_AZURITE or "BULKHEAD_QUEUE_CONNECTION_STRING" in os.environ,
    reason="needs a service that the test may kill",
)


def client(address):
    return QueueClient.from_connection_string(string_for(address), "declared", **ONCE)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_messages_receipts_and_counts_outlive_the_process(tmp_path, end):
    data = f" --data {tmp_path / 'data'}"
    with stand_in(tmp_path, data) as (process, address):
        queue = client(address)
        for number in range(100):
            queue.send_message(str(number))
        page = queue.receive_messages(max_messages=40, visibility_timeout=600)
        held = list(page)
        for message in held[:20]:
            queue.delete_message(message)
        stale = held[21]
        kept = queue.update_message(stale, visibility_timeout=600, content="changed")
        queue.set_queue_metadata({"owner": "me"})
        process.send_signal(end)
        process.wait(10)
    assert any((tmp_path / "data").iterdir())
    with stand_in(tmp_path, data) as (process, address):
        queue = client(address)
        properties = queue.get_queue_properties()
        assert properties.approximate_message_count == 80
        assert properties.metadata == {"owner": "me"}
        with pytest.raises(HttpResponseError) as caught:
            queue.delete_message(stale)
        assert caught.value.error_code == "PopReceiptMismatch"
        kept = queue.update_message(kept, visibility_timeout=0)
        queue.delete_message(held[20])
        texts = [message.content for message in queue.receive_messages(messages_per_page=32)]
        assert sorted(texts) == sorted([*map(str, range(40, 100)), "changed"])
        again = queue.send_message("new")
        assert again.id not in {message.id for message in held}
