"""Drops one job on the queue of a local instance: pip install azure-servicebus"""
import json
import os
import sys

from azure.servicebus import ServiceBusClient, ServiceBusMessage

connection = os.environ.get("DSVM_SERVICEBUS") or json.load(open(".dsvm/instance.json"))["serviceBus"]
job = {"id": sys.argv[1] if len(sys.argv) > 1 else "from-python", "pool": "cpu", "command": ["echo", "hello from Python"]}
with ServiceBusClient.from_connection_string(connection) as client, client.get_queue_sender("jobs") as sender:
    sender.send_messages(ServiceBusMessage(json.dumps(job), content_type="application/json"))
print(job["id"])
