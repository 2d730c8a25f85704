"""What a producer and a consumer do all day."""

import base64
import datetime
import threading

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.queue import (
    BinaryBase64DecodePolicy,
    BinaryBase64EncodePolicy,
    QueueClient,
    TextBase64DecodePolicy,
    TextBase64EncodePolicy,
)
from conftest import IS_AZURITE, ONCE, wait_for

TEXT = "an order & <more> \"quoted\" 'too' ü 漢 😀\ttab\nline"


def code(caught):
    return caught.value.error_code


def test_a_message_goes_through_its_life(queue):
    sent = queue.send_message(TEXT)
    assert sent.expires_on - sent.inserted_on == datetime.timedelta(days=7)
    [peeked] = queue.peek_messages()
    assert (peeked.id, peeked.content, peeked.dequeue_count) == (sent.id, TEXT, 0)
    received = queue.receive_message()
    assert (received.id, received.content, received.dequeue_count) == (sent.id, TEXT, 1)
    assert received.pop_receipt != sent.pop_receipt
    held_for = received.next_visible_on - received.inserted_on
    assert datetime.timedelta(seconds=29) <= held_for <= datetime.timedelta(seconds=40)
    assert queue.receive_message() is None
    assert queue.peek_messages() == []
    assert queue.get_queue_properties().approximate_message_count == 1
    queue.delete_message(received)
    assert queue.get_queue_properties().approximate_message_count == 0
    with pytest.raises(ResourceNotFoundError) as caught:
        queue.delete_message(received)
    assert code(caught) == "MessageNotFound"


def test_the_receipt_of_a_put_is_good_until_the_message_is_taken(queue):
    early = queue.send_message("taken back")
    queue.delete_message(early.id, early.pop_receipt)
    late = queue.send_message("taken")
    queue.receive_message()
    with pytest.raises(HttpResponseError) as caught:
        queue.delete_message(late.id, late.pop_receipt)
    assert (caught.value.status_code, code(caught)) == (400, "PopReceiptMismatch")


def test_a_message_comes_back_when_its_timeout_is_over(queue):
    queue.send_message("x")
    first = queue.receive_message(visibility_timeout=1)
    again = wait_for(lambda: queue.receive_message(visibility_timeout=60), what="redelivery")
    assert (again.id, again.dequeue_count) == (first.id, 2)
    with pytest.raises(HttpResponseError) as caught:
        queue.delete_message(first)
    assert code(caught) == "PopReceiptMismatch"
    queue.delete_message(again)


def test_an_update_gives_back_or_keeps_and_can_change_the_text(queue):
    queue.send_message("first")
    taken = queue.receive_message(visibility_timeout=60)
    kept = queue.update_message(taken, visibility_timeout=3600, content="second")
    assert kept.next_visible_on - kept.inserted_on >= datetime.timedelta(minutes=59)
    with pytest.raises(HttpResponseError) as caught:
        queue.update_message(taken, visibility_timeout=1)
    assert code(caught) == "PopReceiptMismatch"
    given_back = queue.update_message(kept, visibility_timeout=0)
    again = queue.receive_message()
    assert (again.content, again.dequeue_count) == ("second", 2)
    assert again.id == given_back.id


def test_a_message_can_be_put_for_later_and_end_early(queue):
    later = queue.send_message("later", visibility_timeout=1)
    assert queue.receive_message() is None
    short = queue.send_message("short", visibility_timeout=0, time_to_live=1)
    assert short.expires_on - short.inserted_on <= datetime.timedelta(seconds=2)
    arrived = wait_for(queue.receive_message, what="visibility")
    while arrived.id == short.id:
        arrived = wait_for(queue.receive_message, what="visibility")
    assert arrived.id == later.id
    wait_for(lambda: not queue.peek_messages(max_messages=32), what="end of the short life")
    assert queue.send_message("kept", time_to_live=-1).expires_on.year == 9999


def test_pages_of_messages(queue):
    for number in range(40):
        queue.send_message(str(number))
    peeked = [message.content for message in queue.peek_messages(max_messages=32)]
    assert peeked == [str(number) for number in range(32)]
    pages = list(queue.receive_messages(messages_per_page=16, visibility_timeout=60).by_page())
    contents = [[message.content for message in page] for page in pages]
    assert [len(page) for page in contents if page] == [16, 16, 8]
    assert sorted(sum(contents, []), key=int) == [str(number) for number in range(40)]
    queue.clear_messages()
    assert queue.get_queue_properties().approximate_message_count == 0


def test_consumers_share_the_messages(queue):
    for number in range(60):
        queue.send_message(str(number))
    done, lock = [], threading.Lock()

    def consume():
        for message in queue.receive_messages(messages_per_page=4, visibility_timeout=60):
            queue.delete_message(message)
            with lock:
                done.append(message.content)

    consumers = [threading.Thread(target=consume) for _ in range(4)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join(timeout=30)
    assert sorted(done, key=int) == [str(number) for number in range(60)]
    assert queue.get_queue_properties().approximate_message_count == 0


@pytest.mark.parametrize(
    "encode, decode, content",
    [
        (TextBase64EncodePolicy, TextBase64DecodePolicy, TEXT),
        (BinaryBase64EncodePolicy, BinaryBase64DecodePolicy, bytes(range(256))),
    ],
    ids=["text", "binary"],
)
def test_base64_as_the_functions_host_has_it(
    connection_string, queue, encode, decode, content
):
    with QueueClient.from_connection_string(
        connection_string,
        queue.queue_name,
        message_encode_policy=encode(),
        message_decode_policy=decode(),
        **ONCE,
    ) as encoding:
        encoding.send_message(content)
        raw = content.encode() if isinstance(content, str) else content
        assert base64.b64decode(queue.peek_messages()[0].content) == raw
        assert encoding.receive_message().content == content


def test_the_longest_message_and_a_longer_one(queue):
    queue.send_message("x" * 64 * 1024)
    with pytest.raises(HttpResponseError) as caught:
        queue.send_message("x" * (64 * 1024 + 1))
    assert (caught.value.status_code, code(caught)) == (413, "RequestBodyTooLarge")
    assert len(queue.receive_message().content) == 64 * 1024


@pytest.mark.parametrize(
    "call, expected",
    [
        (lambda q: q.receive_message(visibility_timeout=604801), "OutOfRangeQueryParameterValue"),
        (lambda q: q.send_message("x", visibility_timeout=604801), "OutOfRangeQueryParameterValue"),
        (lambda q: q.send_message("x", time_to_live=0), "InvalidQueryParameterValue"),
        (lambda q: q.send_message("x", visibility_timeout=9, time_to_live=9), "InvalidQueryParameterValue"),
    ],
    ids=["receive", "send", "live", "longer than it lives"],
)
def test_what_is_out_of_range(queue, call, expected):
    with pytest.raises(HttpResponseError) as caught:
        call(queue)
    assert (caught.value.status_code, code(caught)) == (400, expected)


def test_receipts_that_are_none_or_belong_to_nothing(queue):
    sent = queue.send_message("x")
    with pytest.raises(HttpResponseError) as caught:
        queue.update_message(sent.id, "bm8=", visibility_timeout=1)
    assert caught.value.status_code == 400
    # Azurite does not look at its form.
    expected = "PopReceiptMismatch" if IS_AZURITE else "InvalidQueryParameterValue"
    assert code(caught) == expected
    with pytest.raises(ResourceNotFoundError) as caught:
        queue.delete_message("3c1f8f4e-29a6-4f5a-9d07-0b9a0f0d9a11", sent.pop_receipt)
    assert code(caught) == "MessageNotFound"
    with pytest.raises(HttpResponseError) as caught:
        queue.update_message(sent, visibility_timeout=8 * 24 * 3600)
    assert (caught.value.status_code, code(caught)) == (400, "OutOfRangeQueryParameterValue")


def test_clearing_takes_what_is_held_as_well(queue):
    for text in ["held", "waiting"]:
        queue.send_message(text)
    held = queue.receive_message()
    queue.clear_messages()
    assert queue.peek_messages() == []
    with pytest.raises(ResourceNotFoundError) as caught:
        queue.delete_message(held)
    assert code(caught) == "MessageNotFound"
    queue.send_message("after")
    assert queue.receive_message().content == "after"


def test_an_update_without_content_keeps_it(queue):
    queue.send_message(TEXT)
    taken = queue.receive_message(visibility_timeout=60)
    queue.update_message(taken, visibility_timeout=0)
    assert queue.receive_message().content == TEXT
