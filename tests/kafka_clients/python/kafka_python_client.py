"""kafka-python, version 2 or 3: whichever comes first on the path."""

import time

import kafka
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from records import COUNT, check, record

TIMEOUT_S = 30


class Client:
    version = kafka.__version__

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def _send_all(self, records, **settings):
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", **settings)
        futures = [producer.send(**fields) for fields in records]
        producer.flush(timeout=TIMEOUT_S)
        for future in futures:
            future.get(timeout=TIMEOUT_S)
        producer.close()

    def produce(self, topic, codec, idempotent):
        def fields(number):
            key, value, headers = record(number)
            return {"topic": topic, "key": key, "value": value, "headers": headers,
                    "partition": 0}

        compression = None if codec == "none" else codec
        self._send_all([fields(number) for number in range(COUNT)],
                       compression_type=compression, enable_idempotence=idempotent)

    def produce_keyed(self, topic, count):
        self._send_all([{"topic": topic, "key": f"key-{number}".encode(),
                         "value": f"value-{number}".encode()} for number in range(count)])

    def _take(self, consumer, count):
        """Exactly `count` records, so that positions are behind what was taken."""
        deadline = time.monotonic() + TIMEOUT_S
        taken = []
        while len(taken) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(taken)} of {count} within {TIMEOUT_S} s")
            polled = consumer.poll(timeout_ms=500, max_records=count - len(taken))
            taken.extend(record for records in polled.values() for record in records)
        return taken

    def verify(self, topic):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        for number, found in enumerate(self._take(consumer, COUNT)):
            check(topic, number, found.offset, found.key, found.value, found.headers)
        consumer.close()

    def consume_in_group(self, topic, group, count):
        consumer = KafkaConsumer(topic, bootstrap_servers=self.bootstrap, group_id=group,
                                 auto_offset_reset="earliest", enable_auto_commit=False)
        values = [found.value.decode() for found in self._take(consumer, count)]
        consumer.commit()
        consumer.close()
        return values
