"""librdkafka members of groups, as many as it is told of by lines of standard input.

    group_members.py BOOTSTRAP
    join GROUP TOPIC ASSIGNOR,...      leave GROUP

Prints JSON lines: "assigned" with all partitions that the member has, at every change; "consumed"
with partition and value; "leading" whenever the member shares out; "left"; "failed". What was
consumed is committed at once.
"""

import json
import logging
import os
import re
import sys
import threading
import traceback

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

POLL_S = 0.1
LEADING = re.compile(r'running \S+ assignor for (\d+) member')
# A cooperative member reads on while it joins: it commits when that has ended.
JOINING = (KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)


class Member(threading.Thread):
    def __init__(self, bootstrap, group, topic, assignors):
        super().__init__(daemon=True)
        self.group, self.topic, self.assignors = group, topic, assignors
        self.bootstrap = bootstrap
        self.owned, self.uncommitted = set(), {}
        self.leaving = threading.Event()

    def report(self, event, **fields):
        # One write for each line: members report from threads of their own.
        line = json.dumps({"event": event, "group": self.group, **fields})
        os.write(1, f"{line}\n".encode())

    def run(self):
        try:
            self._live()
            self.report("left")
        except Exception as error:  # Whatever it is, the test has to hear of it.
            traceback.print_exc()
            self.report("failed", error=str(error))

    def _live(self):
        # The only place where librdkafka says who leads is its log.
        logger = logging.getLogger(self.group)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addFilter(self._look_for_leading)
        self.consumer = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": self.group,
            "partition.assignment.strategy": self.assignors, "heartbeat.interval.ms": 100,
            "enable.auto.commit": False, "auto.offset.reset": "earliest", "debug": "assignor",
        }, logger=logger)
        self.consumer.subscribe([self.topic], on_assign=self._on_assign,
                                on_revoke=self._on_revoke, on_lost=self._on_lost)
        while not self.leaving.is_set():
            message = self.consumer.poll(POLL_S)
            if message is not None:
                self._consumed(message)
            self._commit()
        self.consumer.close()

    def _look_for_leading(self, entry):
        found = LEADING.search(entry.getMessage())
        if found:
            self.report("leading", members=int(found[1]))
        return False

    def _consumed(self, message):
        if message.error() is not None:
            raise KafkaException(message.error())
        self.uncommitted[message.partition()] = message.offset() + 1
        self.report("consumed", partition=message.partition(), value=message.value().decode())

    def _commit(self):
        if not self.uncommitted:
            return
        positions = [TopicPartition(self.topic, partition, offset)
                     for partition, offset in self.uncommitted.items()]
        try:
            stored = self.consumer.commit(offsets=positions, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in JOINING:
                raise
            return
        failures = [one.error for one in stored if one.error is not None]
        if failures:
            raise KafkaException(failures[0])
        self.uncommitted.clear()

    def _report_owned(self):
        self.report("assigned", partitions=sorted(self.owned))

    def _on_assign(self, _, partitions):
        self.owned |= {one.partition for one in partitions}
        self._report_owned()

    def _on_revoke(self, _, partitions):
        self._commit()
        self.owned -= {one.partition for one in partitions}
        self._report_owned()

    def _on_lost(self, _, partitions):
        self.report("failed", error=f"lost {partitions}")


def main():
    members = {}
    for line in sys.stdin:
        order, group, *rest = line.split()
        if order == "join":
            members[group] = Member(sys.argv[1], group, *rest)
            members[group].start()
        else:
            members[group].leaving.set()


if __name__ == "__main__":
    main()
