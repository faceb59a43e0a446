"""Kafka clients in Python: confluent-kafka, kafka-python 2 and 3, aiokafka.

    main.py CLIENT BOOTSTRAP produce PREFIX        one topic for each codec: PREFIX-gzip, ...
    main.py CLIENT BOOTSTRAP verify TOPIC...       reads what any client has produced
    main.py CLIENT BOOTSTRAP group TOPIC GROUP     consumes in a group, commits, resumes

Prints one JSON line for each step done; a step that fails ends the program with its reason.
"""

import importlib
import json
import os
import sys

from records import CODECS, COUNT

GROUP_RECORDS = 40
MODULES = {
    "confluent-kafka": "confluent_client",
    "kafka-python-2": "kafka_python_client",
    "kafka-python-3": "kafka_python_client",
    "aiokafka": "aiokafka_client",
}


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def produce(client, prefix):
    for codec in CODECS:
        topic = f"{prefix}-{codec}"
        # Idempotence is not the default of these clients: one topic is written with it.
        client.produce(topic, codec, idempotent=codec == "zstd")
        report("produced", topic=topic, codec=codec, count=COUNT)


def group(client, topic, name):
    client.produce_keyed(topic, GROUP_RECORDS)
    first = client.consume_in_group(topic, name, GROUP_RECORDS // 2)
    second = client.consume_in_group(topic, name, GROUP_RECORDS - len(first))
    if len(set(first)) != len(first) or set(first) & set(second):
        raise AssertionError(f"repeated: {sorted(first)} then {sorted(second)}")
    wanted = {f"value-{number}" for number in range(GROUP_RECORDS)}
    if set(first) | set(second) != wanted:
        raise AssertionError(f"missing: {sorted(wanted - set(first) - set(second))}")
    report("resumed", first=len(first), second=len(second))


def main():
    name, bootstrap, command, *rest = sys.argv[1:]
    if name == "kafka-python-3":
        sys.path.insert(0, os.environ["KAFKA_PYTHON_3"])
    client = importlib.import_module(MODULES[name]).Client(bootstrap)
    report("client", name=name, version=client.version)
    if command == "produce":
        produce(client, *rest)
    elif command == "verify":
        for topic in rest:
            client.verify(topic)
            report("verified", topic=topic, count=COUNT)
    elif command == "group":
        group(client, *rest)
    else:
        sys.exit(f"unknown command {command}")


if __name__ == "__main__":
    main()
