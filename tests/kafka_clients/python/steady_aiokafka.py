"""A producer of aiokafka that writes on while brokers die.

    steady_aiokafka.py BOOTSTRAP TOPIC PARTITIONS FIRST

Sends the numbers from FIRST on, as eight bytes, to the partitions in turn until standard input
says `stop` or ends. Prints `first_ack`, and at the end `sent`, with [partition, offset, number] of
each acknowledgement.
"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaProducer

PAUSE_S = 0.005


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


async def main():
    bootstrap, topic, partitions, first = sys.argv[1:5]
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        request_timeout_ms=60_000,
        metadata_max_age_ms=1_000,
    )
    await producer.start()
    stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    acked, failed, waiting = [], [], []

    async def note(future, number):
        try:
            answer = await future
        except Exception as error:  # Whatever it is, it is reported.
            failed.append(repr(error))
            return
        if not acked:
            say("first_ack")
        acked.append([answer.partition, answer.offset, number])

    number = int(first)
    while not stop.done():
        value = number.to_bytes(8, "big")
        future = await producer.send(topic, value, partition=number % int(partitions))
        waiting.append(asyncio.create_task(note(future, number)))
        number += 1
        await asyncio.sleep(PAUSE_S)
    await asyncio.gather(*waiting)
    await producer.stop()
    say("sent", acked=acked, failed=failed, next=number)


asyncio.run(main())
