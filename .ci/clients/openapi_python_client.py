"""Uses the client that openapi-python-client has made: submits a job, waits, reads its log, and reports usage.

Arguments: the folder with the client, the file that describes the instance.
"""
import json
import sys
import time

sys.path.insert(0, sys.argv[1])
from dsvmpools_client import AuthenticatedClient  # noqa: E402
from dsvmpools_client.api.jobs import read_log, show_job, submit_job  # noqa: E402
from dsvmpools_client.api.usage import report_usage  # noqa: E402
from dsvmpools_client.models import JobDocument, Problem, ReadLogStream  # noqa: E402

with open(sys.argv[2]) as file:
    instance = json.load(file)
client = AuthenticatedClient(instance["url"], instance["key"], auth_header_name="x-functions-key", prefix="")
job = JobDocument(pool="cpu", command=["echo", "hello from openapi-python-client"], id="openapi-python-client")
answer = submit_job.sync(client=client, body=job)
assert not isinstance(answer, Problem), answer
both = submit_job.sync_detailed(client=client, body=[job, JobDocument(pool="cpu")])
assert both.status_code == 207 and [item.status for item in both.parsed.items] == [202, 400], both
while True:
    job = show_job.sync("openapi-python-client", client=client)
    if job.ended_at is not None:
        break
    time.sleep(0.2)
assert job.state == "succeeded", job
log = read_log.sync_detailed("openapi-python-client", ReadLogStream.STDOUT, client=client)
assert log.content == b"hello from openapi-python-client\n", log
report = report_usage.sync(client=client, by="job")
assert any(line.job == "openapi-python-client" for line in report.items), report
print(report.totals)
