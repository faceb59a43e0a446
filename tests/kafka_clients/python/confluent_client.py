"""confluent-kafka, which is librdkafka."""

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from records import COUNT, check, record

TIMEOUT_S = 30


class Client:
    version = f"{confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}"

    def __init__(self, bootstrap):
        self.base = {"bootstrap.servers": bootstrap}

    def _producer(self, **settings):
        self.failures = []
        return Producer({**self.base, **settings})

    def _on_delivery(self, error, message):
        if error is not None:
            self.failures.append(error)

    def _flush(self, producer):
        left = producer.flush(TIMEOUT_S)
        if left or self.failures:
            raise AssertionError(f"{left} not delivered, failures: {self.failures}")

    def produce(self, topic, codec, idempotent):
        producer = self._producer(
            **{"compression.type": codec, "enable.idempotence": idempotent})
        for number in range(COUNT):
            key, value, headers = record(number)
            producer.produce(topic, value, key, partition=0, headers=headers,
                             on_delivery=self._on_delivery)
        self._flush(producer)

    def produce_keyed(self, topic, count):
        producer = self._producer()
        for number in range(count):
            producer.produce(topic, f"value-{number}", f"key-{number}",
                             on_delivery=self._on_delivery)
        self._flush(producer)

    def _next(self, consumer):
        message = consumer.poll(TIMEOUT_S)
        if message is None:
            raise AssertionError(f"no message within {TIMEOUT_S} s")
        if message.error() is not None:
            raise AssertionError(str(message.error()))
        return message

    def verify(self, topic):
        consumer = Consumer({**self.base, "group.id": "unused", "enable.auto.commit": False})
        consumer.assign([TopicPartition(topic, 0, 0)])
        for number in range(COUNT):
            message = self._next(consumer)
            check(topic, number, message.offset(), message.key(), message.value(),
                  message.headers())
        consumer.close()

    def consume_in_group(self, topic, group, count):
        consumer = Consumer({**self.base, "group.id": group, "auto.offset.reset": "earliest",
                             "enable.auto.commit": False})
        consumer.subscribe([topic])
        values = [self._next(consumer).value().decode() for _ in range(count)]
        for partition in consumer.commit(asynchronous=False):
            if partition.error is not None and partition.error.code() != KafkaError.NO_ERROR:
                raise AssertionError(str(partition.error))
        consumer.close()
        return values
