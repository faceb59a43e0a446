"""Where librdkafka puts keys: one key in hex per line in, its partition of four out.

Needs no broker: librdkafka's own mock has topics of four partitions. It made the vectors of
`client/src/partitioner/vectors.txt`.
"""

import sys

from confluent_kafka import Producer


def main():
    keys = [bytes.fromhex(line.strip()) for line in sys.stdin]
    partitions = [None] * len(keys)

    def delivered(index):
        def note(error, message):
            partitions[index] = error or message.partition()

        return note

    producer = Producer({"test.mock.num.brokers": 1, "partitioner": "murmur2_random"})
    for index, key in enumerate(keys):
        producer.produce("topic", b"value", key=key, on_delivery=delivered(index))
    producer.flush(30)
    for partition in partitions:
        print(partition)


main()
