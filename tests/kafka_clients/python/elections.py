"""Has the first replica of every partition of a topic lead.

    elections.py BOOTSTRAP TOPIC PARTITIONS

Prints one line: {"event": "elected", "answer": ..}, the answer's structure as kafka-python has it.
"""

import json
import sys

from kafka.admin import KafkaAdminClient


def main():
    bootstrap, topic, partitions = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    answer = admin.perform_leader_election(0, {topic: list(range(partitions))})
    print(json.dumps({"event": "elected", "answer": answer.to_object()}), flush=True)
    admin.close()


main()
