"""Uses the Python client that openapi-generator has made: submits a job, waits, reads its log, and reports usage.

Arguments: the folder with the client, the file that describes the instance.
"""
import json
import sys
import time

sys.path.insert(0, sys.argv[1])
import openapi_client as api  # noqa: E402

with open(sys.argv[2]) as file:
    instance = json.load(file)
client = api.ApiClient(api.Configuration(host=instance["url"], api_key={"key": instance["key"]}))
jobs = api.JobsApi(client)
name = "openapi-generator-python"
document = api.JobDocument(pool="cpu", command=["echo", "hello from " + name], id=name)
jobs.submit_job(api.SubmitJobRequest(document))
while True:
    job = jobs.show_job(name)
    if job.ended_at is not None:
        break
    time.sleep(0.2)
assert job.state == "succeeded", job
log = jobs.read_log(name, "stdout")
assert log == "hello from " + name + "\n", log
report = api.UsageApi(client).report_usage(by="job")
assert any(line.job == name for line in report.items), report
print(report.totals)
