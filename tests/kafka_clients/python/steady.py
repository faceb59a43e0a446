"""One idempotent producer that writes on while brokers die, and a judge of what became of it.

    steady.py BOOTSTRAP TOPIC PARTITIONS [REPLICAS]

Makes the topic with three replicas, or so many, and sends numbers to its partitions in turn, one
after the other. Lines on standard input: `fault` notes the moment of a fault; `stop` ends the
producer. Then it reads the topic from its start to its end and prints one line:

    {"event": "judged", "acked": .., "lost": [..], "twice": .., "failed": [..], "gaps_ms": [..]}

`lost` are acknowledged numbers that do not lie where their ack said, `twice` counts numbers that
lie in the log more than once, `failed` are errors that the producer got, and `gaps_ms` has for
each fault the longest time that any partition went without an acknowledgement around it.
"""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PAUSE_S = 0.002
SETTLED_S = 4.0


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Steady:
    def __init__(self, bootstrap, topic, partitions):
        self.bootstrap, self.topic, self.partitions = bootstrap, topic, partitions
        self.acked, self.failed, self.faults = {}, [], []
        self.times = [[] for _ in range(partitions)]
        self.stopping = threading.Event()

    def produce(self):
        producer = Producer({
            "bootstrap.servers": self.bootstrap,
            "enable.idempotence": True,
            "message.timeout.ms": 60_000,
            "topic.metadata.refresh.interval.ms": 500,
            "reconnect.backoff.max.ms": 200,
        })
        number = 0
        while not self.stopping.is_set():
            partition = number % self.partitions
            producer.produce(
                self.topic,
                value=str(number),
                partition=partition,
                on_delivery=lambda error, message, number=number: self.note(number, error, message),
            )
            number += 1
            producer.poll(PAUSE_S)
        producer.flush()

    def note(self, number, error, message):
        if error is not None:
            self.failed.append(str(error))
            return
        if not self.acked:
            say("first_ack")
        self.times[message.partition()].append(time.monotonic())
        self.acked[(message.partition(), message.offset())] = number

    def gap_ms(self, fault):
        longest = 0.0
        for times in self.times:
            around = [at for at in times if fault - 0.5 < at < fault + SETTLED_S]
            longest = max([longest, *(later - at for at, later in zip(around, around[1:]))])
        return round(longest * 1_000)

    def read_all(self):
        consumer = Consumer({
            "bootstrap.servers": self.bootstrap,
            "group.id": "judge",
            "enable.auto.commit": False,
        })
        ends = {}
        for partition in range(self.partitions):
            where = TopicPartition(self.topic, partition)
            _, ends[partition] = consumer.get_watermark_offsets(where, timeout=30)
        consumer.assign([TopicPartition(self.topic, number, 0) for number in ends])
        found, left = {}, {number: end for number, end in ends.items() if end > 0}
        while left:
            message = consumer.poll(30)
            if message is None:
                raise TimeoutError(f"nothing came for 30 s; still to come: {left}")
            if message.error():
                raise RuntimeError(str(message.error()))
            found[(message.partition(), message.offset())] = int(message.value())
            if message.offset() + 1 >= left.get(message.partition(), 0):
                left.pop(message.partition(), None)
        consumer.close()
        return found

    def judge(self):
        found = self.read_all()
        lost = [number for where, number in self.acked.items() if found.get(where) != number]
        say(
            "judged",
            acked=len(self.acked),
            lost=lost[:20],
            twice=len(found) - len(set(found.values())),
            failed=self.failed[:5],
            gaps_ms=[self.gap_ms(fault) for fault in self.faults],
        )


def main():
    bootstrap, topic, partitions = sys.argv[1], sys.argv[2], int(sys.argv[3])
    replicas = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, partitions, replicas)]).values():
        future.result()
    steady = Steady(bootstrap, topic, partitions)
    producing = threading.Thread(target=steady.produce)
    producing.start()
    for line in sys.stdin:
        if line.strip() == "fault":
            steady.faults.append(time.monotonic())
        elif line.strip() == "stop":
            break
    steady.stopping.set()
    producing.join()
    steady.judge()


main()
