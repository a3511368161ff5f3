"""Peeks at queues with the Python SDK, reads each message as a whole, and prints how many
there are: {"queue": number}. The arguments are the queues; BUS in the environment is the
connection string."""
import json
import os
import sys

from azure.servicebus import ServiceBusClient

found = {}
with ServiceBusClient.from_connection_string(os.environ["BUS"]) as client:
    for queue in sys.argv[1:]:
        with client.get_queue_receiver(queue) as receiver:
            found[queue] = 0
            after = 0
            while page := receiver.peek_messages(50, sequence_number=after):
                for m in page:
                    str(m), repr(m.application_properties), m.correlation_id, list(m.body)
                    assert m.message_id, m
                found[queue] += len(page)
                after = page[-1].sequence_number + 1
print(json.dumps(found))
