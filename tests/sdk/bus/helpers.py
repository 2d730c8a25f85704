"""What the tests say often."""

import time

WAIT_SECONDS_MAX = 10


def texts(messages):
    """The bodies as text."""
    return [str(message) for message in messages]


def receive(receiver, count, wait=WAIT_SECONDS_MAX):
    """Exactly `count` messages, within a deadline."""
    received = []
    deadline = time.monotonic() + wait
    while len(received) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(received)} of {count} messages came within {wait} s"
        received += receiver.receive_messages(
            max_message_count=count - len(received), max_wait_time=left
        )
    return received


def nothing(receiver):
    """Whether no message comes for a moment."""
    return receiver.receive_messages(max_message_count=1, max_wait_time=0.3) == []
