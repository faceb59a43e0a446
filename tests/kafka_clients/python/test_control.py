"""A test's controls from Python: what kafka-python does when its broker fails and time flies.

    test_control.py BOOTSTRAP HTTP

The broker runs with `bateau dev --test-control`. Prints one JSON line for each step, and ends with
a traceback at the first one that does not do what it should.
"""

import json
import sys
import time
import urllib.error
import urllib.request

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition

TIMEOUT_S = 60


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Controls:
    def __init__(self, http):
        self.http = http

    def _answer(self, request):
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return json.load(response)

    def post(self, name, **body):
        request = urllib.request.Request(f"{self.http}/test/v1/{name}", method="POST",
                                         data=json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        return self._answer(request)

    def requests(self, api):
        return self._answer(f"{self.http}/test/v1/requests?api={api}")


def record_count(bootstrap):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap)
    partition = TopicPartition("orders", 0)
    end = consumer.end_offsets([partition])[partition]
    consumer.close()
    return end


def retry(controls, bootstrap):
    """A broker that is not the leader for a moment: the client asks again, for one record."""
    controls.post("seed_topic", topic="orders", partitions=1)
    controls.post("fail_next", api="Produce", error="NOT_LEADER_OR_FOLLOWER")
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", retries=5,
                             retry_backoff_ms=20)
    producer.send("orders", key=b"a", value=b"once", partition=0).get(timeout=TIMEOUT_S)
    producer.close()
    seen = controls.requests("Produce")
    assert seen["counts"] == {"Produce": 2}, seen
    faults = [request.get("fault") for request in seen["requests"]]
    assert faults == ["refused with NOT_LEADER_OR_FOLLOWER", None], seen
    assert record_count(bootstrap) == 1, "exactly one record"
    report("retried", records=1)


class Joins(ConsumerRebalanceListener):
    count = 0

    def on_partitions_revoked(self, revoked):
        pass

    def on_partitions_assigned(self, assigned):
        self.count += 1


def expiry(controls, bootstrap):
    """46 seconds at once: a session of 45 s expires, and the member joins again."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id="billing",
                             session_timeout_ms=45_000, heartbeat_interval_ms=500,
                             max_poll_interval_ms=300_000, auto_offset_reset="earliest")
    joins = Joins()
    consumer.subscribe(["orders"], listener=joins)

    def until(count):
        deadline = time.monotonic() + TIMEOUT_S
        while joins.count < count:
            assert time.monotonic() < deadline, f"{joins.count} of {count} joins"
            consumer.poll(timeout_ms=100)

    until(1)
    answer = controls.post("advance", ms=46_000)
    assert answer["advanced_ms"] == 46_000, answer
    until(2)
    consumer.close()
    report("expired", joins=joins.count)


def mistakes(controls):
    """What cannot be is refused with a code."""
    try:
        controls.post("fail_next", api="Produce", error="OOPS")
    except urllib.error.HTTPError as error:
        answer = json.load(error)
        assert (error.code, answer["error"]) == (400, "E1307"), answer
        report("refused", code=answer["error"])
    else:
        raise AssertionError("an error that does not exist was planned")


def main():
    bootstrap, http = sys.argv[1:]
    controls = Controls(http)
    retry(controls, bootstrap)
    expiry(controls, bootstrap)
    mistakes(controls)
    report("done")


if __name__ == "__main__":
    main()
