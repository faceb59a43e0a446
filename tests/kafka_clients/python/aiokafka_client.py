"""aiokafka, which is asynchronous."""

import asyncio

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from records import COUNT, check, record

TIMEOUT_S = 30


class Client:
    version = aiokafka.__version__

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def _run(self, coroutine):
        async def limited():
            return await asyncio.wait_for(coroutine, TIMEOUT_S)

        return asyncio.run(limited())

    async def _send_all(self, records, **settings):
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all", **settings)
        await producer.start()
        try:
            futures = [await producer.send(**fields) for fields in records]
            await asyncio.gather(*futures)
        finally:
            await producer.stop()

    def produce(self, topic, codec, idempotent):
        def fields(number):
            key, value, headers = record(number)
            return {"topic": topic, "key": key, "value": value, "headers": headers,
                    "partition": 0}

        compression = None if codec == "none" else codec
        self._run(self._send_all([fields(number) for number in range(COUNT)],
                                 compression_type=compression, enable_idempotence=idempotent))

    def produce_keyed(self, topic, count):
        self._run(self._send_all(
            [{"topic": topic, "key": f"key-{number}".encode(),
              "value": f"value-{number}".encode()} for number in range(count)]))

    async def _take(self, consumer, count):
        """Exactly `count` records, so that positions are behind what was taken."""
        taken = []
        while len(taken) < count:
            polled = await consumer.getmany(timeout_ms=500, max_records=count - len(taken))
            taken.extend(record for records in polled.values() for record in records)
        return taken

    def verify(self, topic):
        async def run():
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap,
                                        enable_auto_commit=False)
            await consumer.start()
            try:
                partition = TopicPartition(topic, 0)
                consumer.assign([partition])
                await consumer.seek_to_beginning(partition)
                for number, found in enumerate(await self._take(consumer, COUNT)):
                    check(topic, number, found.offset, found.key, found.value, found.headers)
            finally:
                await consumer.stop()

        self._run(run())

    def consume_in_group(self, topic, group, count):
        async def run():
            consumer = AIOKafkaConsumer(topic, bootstrap_servers=self.bootstrap,
                                        group_id=group, auto_offset_reset="earliest",
                                        enable_auto_commit=False)
            await consumer.start()
            try:
                values = [found.value.decode() for found in await self._take(consumer, count)]
                await consumer.commit()
                return values
            finally:
                await consumer.stop()

        return self._run(run())
