"""Judges the local servers with the SDKs of Python, sync and asyncio, over TCP and WebSocket.

The environment names them: BUS (plain), BUS_TLS, TABLES, TABLES_TLS, ARM_TLS, CERTIFICATE.
The queues are `jobs`, `sessions` and those whose first send fails: `busy` is throttled,
`cut` loses its link, `gone` its connection, `lost` the answer; each once more with `async-`
before the name. The first insert into the table `busy`, the first get from the table `gone`
and the first get of the scale set `busy` fail likewise. The scale set `cpu` has two instances.
"""
import asyncio
import contextlib
import datetime
import os
import sys
import time
import traceback
import uuid

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.core import MatchConditions
from azure.data.tables import EntityProperty, EdmType, TableServiceClient, TableTransactionError
from azure.data.tables.aio import TableServiceClient as AsyncTables
from azure.mgmt.compute import ComputeManagementClient
from azure.servicebus import ServiceBusClient, ServiceBusMessage, TransportType
from azure.servicebus.aio import ServiceBusClient as AsyncClient
from azure.servicebus.aio.management import ServiceBusAdministrationClient as AsyncAdministration
from azure.servicebus.exceptions import MessageSizeExceededError, ServiceBusAuthenticationError, ServiceBusError
from azure.servicebus.management import ServiceBusAdministrationClient

PLAIN, SECURE, CERTIFICATE = os.environ["BUS"], os.environ["BUS_TLS"], os.environ["CERTIFICATE"]
# The SDK takes the port of a server with TLS from here alone.
SECURELY = {"connection_verify": CERTIFICATE, "custom_endpoint_address": "sb://" + SECURE.split("sb://")[1].split(";")[0]}
RETRIES = {"retry_total": 2, "retry_backoff_factor": 0.1, "retry_backoff_max": 1}
failed = passed = 0


def check(name, test):
    global failed, passed
    try:
        test()
        passed += 1
    except Exception:
        failed += 1
        print("FAILED", name)
        lines = traceback.format_exc().splitlines()
        print("\n".join(l for l in lines if __file__ in l or not l.startswith("  "))[-3000:])


def client(text=PLAIN, **more):
    if text == SECURE:
        more.update(SECURELY)
    return ServiceBusClient.from_connection_string(text, **RETRIES, **more)


def take(receiver, n=1):
    out, until = [], time.monotonic() + 10
    while len(out) < n and time.monotonic() < until:
        out += receiver.receive_messages(n - len(out), max_wait_time=2)
    assert len(out) == n, f"{len(out)} messages came, not {n}"
    return out


def round_trip(text, **more):
    with client(text, **more) as c, c.get_queue_sender("jobs") as s, c.get_queue_receiver("jobs") as r:
        s.send_messages([ServiceBusMessage(b"x" * 100, message_id=str(i)) for i in range(20)])
        got = take(r, 20)
        assert [m.message_id for m in got] == [str(i) for i in range(20)]
        for m in got:
            r.complete_message(m)
        assert not r.peek_messages(5)


@contextlib.contextmanager
def fails(kind):
    try:
        yield
    except kind:
        return
    raise AssertionError(f"it succeeds, and must fail with {kind.__name__}")


WRONG = PLAIN.replace("SharedAccessKey=", "SharedAccessKey=d3Jvbmc=;X=")


def refusal():
    with client() as c, c.get_queue_sender("jobs") as s, fails(MessageSizeExceededError):
        s.send_messages(ServiceBusMessage(b"x" * 300_000))
    with client() as c, fails(ServiceBusError), c.get_queue_sender("nothing") as s:
        s.send_messages(ServiceBusMessage(b"x"))
    with client(WRONG) as c, fails(ServiceBusAuthenticationError), c.get_queue_sender("jobs") as s:
        s.send_messages(ServiceBusMessage(b"x"))


def sent(queue):
    with client() as c, c.get_queue_sender(queue) as s, c.get_queue_receiver(queue, receive_mode="receiveanddelete") as r:
        s.send_messages(ServiceBusMessage(b"x"))
        take(r)


def full_batch():
    with client() as c, c.get_queue_sender("jobs") as s, c.get_queue_receiver("jobs", receive_mode="receiveanddelete") as r:
        for size in (10, 1000, 100_000):
            batch, n = s.create_message_batch(), 0
            try:
                while True:
                    batch.add_message(ServiceBusMessage(b"x" * size, application_properties={"a": "b" * 50}, subject="s" * 50))
                    n += 1
            except ValueError:
                pass
            s.send_messages(batch)
            take(r, n)


def dead_letters():
    with client() as c, c.get_queue_sender("jobs") as s, c.get_queue_receiver("jobs") as r:
        s.send_messages(ServiceBusMessage(b"x", correlation_id="c", reply_to="r"))
        r.dead_letter_message(take(r)[0], reason="why", error_description="because")
        with c.get_queue_receiver("jobs", sub_queue="deadletter") as dead:
            m = take(dead)[0]
            assert (m.dead_letter_reason, m.dead_letter_error_description, m.correlation_id) == ("why", "because", "c")
            dead.complete_message(m)


def sessions():
    with client() as c, c.get_queue_sender("sessions") as s:
        s.send_messages(ServiceBusMessage(b"x", session_id="one"))
        with c.get_queue_receiver("sessions", session_id="one") as r:
            r.session.set_state(b"state")
            assert r.session.get_state() == b"state"
            r.complete_message(take(r)[0])


def administration():
    with ServiceBusAdministrationClient.from_connection_string(SECURE, connection_verify=CERTIFICATE) as a:
        q = a.create_queue("made", max_delivery_count=3)
        assert (q.name, q.max_delivery_count, q.enable_express) == ("made", 3, False)
        with client() as c, c.get_queue_sender("made") as s:
            s.send_messages(ServiceBusMessage(b"x"))
        counts = a.get_queue_runtime_properties("made")
        assert (counts.active_message_count, counts.dead_letter_message_count) == (1, 0), counts
        assert "made" in [q.name for q in a.list_queues()]
        q.max_delivery_count = 4
        a.update_queue(q)
        assert a.get_queue("made").max_delivery_count == 4
        assert a.get_namespace_properties().messaging_sku == "Standard"
        a.delete_queue("made")
        try:
            a.get_queue("made")
        except ResourceNotFoundError:
            pass
        else:
            raise AssertionError("a deleted queue is there")


def async_client(text=PLAIN, **more):
    if text == SECURE:
        more.update(SECURELY)
    return AsyncClient.from_connection_string(text, **RETRIES, **more)


async def async_round_trip(text, **more):
    async with async_client(text, **more) as c, c.get_queue_sender("jobs") as s, c.get_queue_receiver("jobs") as r:
        await s.send_messages([ServiceBusMessage(b"x" * 100, message_id=str(i)) for i in range(20)])
        got = []
        while len(got) < 20:
            some = await r.receive_messages(20 - len(got), max_wait_time=5)
            assert some, f"{len(got)} messages came, not 20"
            got += some
        assert [m.message_id for m in got] == [str(i) for i in range(20)]
        for m in got:
            await r.complete_message(m)
        assert not await r.peek_messages(5)


async def async_refusal():
    async with async_client() as c, c.get_queue_sender("jobs") as s:
        with fails(MessageSizeExceededError):
            await s.send_messages(ServiceBusMessage(b"x" * 300_000))
    async with async_client() as c:
        with fails(ServiceBusError):
            async with c.get_queue_sender("nothing") as s:
                await s.send_messages(ServiceBusMessage(b"x"))
    async with async_client(WRONG) as c:
        with fails(ServiceBusAuthenticationError):
            async with c.get_queue_sender("jobs") as s:
                await s.send_messages(ServiceBusMessage(b"x"))


async def async_sent(queue):
    async with async_client() as c, c.get_queue_sender(queue) as s, c.get_queue_receiver(queue, receive_mode="receiveanddelete") as r:
        await s.send_messages(ServiceBusMessage(b"x"))
        assert await r.receive_messages(1, max_wait_time=5)


async def async_sessions():
    async with async_client() as c, c.get_queue_sender("sessions") as s:
        await s.send_messages(ServiceBusMessage(b"x", session_id="two"))
        async with c.get_queue_receiver("sessions", session_id="two") as r:
            await r.session.set_state(b"state")
            assert await r.session.get_state() == b"state"
            (m,) = await r.receive_messages(1, max_wait_time=5)
            await r.complete_message(m)


async def async_dead_letters():
    async with async_client() as c, c.get_queue_sender("jobs") as s, c.get_queue_receiver("jobs") as r:
        await s.send_messages(ServiceBusMessage(b"x", correlation_id="c"))
        (m,) = await r.receive_messages(1, max_wait_time=5)
        await r.dead_letter_message(m, reason="why", error_description="because")
        async with c.get_queue_receiver("jobs", sub_queue="deadletter") as dead:
            (m,) = await dead.receive_messages(1, max_wait_time=5)
            assert (m.dead_letter_reason, m.correlation_id) == ("why", "c")
            await dead.complete_message(m)


async def async_administration():
    async with AsyncAdministration.from_connection_string(SECURE, connection_verify=CERTIFICATE) as a:
        q = await a.create_queue("async-made", max_delivery_count=3)
        assert (q.name, q.max_delivery_count, q.enable_express) == ("async-made", 3, False)
        assert (await a.get_queue_runtime_properties("async-made")).active_message_count == 0
        assert "async-made" in [q.name async for q in a.list_queues()]
        await a.delete_queue("async-made")
        with fails(ResourceNotFoundError):
            await a.get_queue("async-made")


def table_service(text):
    return TableServiceClient.from_connection_string(text, **({"connection_verify": CERTIFICATE} if "https" in text else {}))


def tables(text, name):
    with table_service(text) as service:
        table = service.create_table(name)
        with fails(ResourceExistsError):
            service.create_table(name)
        rows = [{"PartitionKey": "p", "RowKey": f"{i:03}", "N": i, "Big": EntityProperty(1 << 40, EdmType.INT64), "Text": "it's é",
                 "Id": uuid.UUID(int=7), "Bytes": b"\1\2", "At": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)}
                for i in range(50)]
        table.submit_transaction([("create", row) for row in rows])
        assert len(list(table.query_entities("N ge @a and N lt @b", parameters={"a": 10, "b": 35}, results_per_page=10))) == 25
        one = table.get_entity("p", "007")
        assert {k: one[k] for k in rows[7] if k != "Big"} == {k: v for k, v in rows[7].items() if k != "Big"}
        assert one["Big"].value == 1 << 40, one["Big"]
        condition = {"etag": one.metadata["etag"], "match_condition": MatchConditions.IfNotModified}
        one["N"] = 70
        table.update_entity(one, **condition)
        with fails(ResourceModifiedError):
            table.update_entity(one, **condition)
        with fails(ResourceExistsError):
            table.create_entity({"PartitionKey": "p", "RowKey": "007"})
        with fails(TableTransactionError):
            table.submit_transaction([("create", {"PartitionKey": "p", "RowKey": k}) for k in ("new", "007")])
        with fails(ResourceNotFoundError):
            table.get_entity("p", "new")
        service.delete_table(name)
    with fails(ClientAuthenticationError), table_service(text.replace("AccountKey=", "AccountKey=d3Jvbmc=;X=")) as service:
        service.create_table("wrong")


def tables_fail():
    with table_service(os.environ["TABLES_TLS"]) as service:
        for name in ("busy", "gone"):
            table = service.create_table(name)
            table.create_entity({"PartitionKey": "p", "RowKey": "r"})
            assert table.get_entity("p", "r")


async def async_tables():
    async with AsyncTables.from_connection_string(os.environ["TABLES_TLS"], connection_verify=CERTIFICATE) as service:
        table = await service.create_table("asynchronous")
        await table.upsert_entity({"PartitionKey": "p", "RowKey": "r", "N": 1})
        assert [e["N"] async for e in table.query_entities("N eq 1")] == [1]
        with fails(ResourceNotFoundError):
            await table.get_entity("p", "none")


class Token:
    """A credential for the resource manager: its token is in instance.json."""

    def __init__(self, text):
        self.text = text

    def get_token(self, *scopes, **more):
        return AccessToken(self.text, int(time.time()) + 3600)


def scale_sets():
    endpoint = os.environ["ARM_TLS"]

    def manager(token):
        return ComputeManagementClient(Token(token), "00000000-0000-4000-8000-000000000001", base_url=endpoint,
                                       credential_scopes=[endpoint + "/.default"], connection_verify=CERTIFICATE, polling_interval=1)

    with manager("arm-token") as c:
        sets, instances = c.virtual_machine_scale_sets, c.virtual_machine_scale_set_vms
        assert [s.name for s in sets.list("local")] == ["busy", "cpu"]
        assert [s.name for s in sets.list_all()] == ["busy", "cpu"]
        assert sets.get("local", "cpu").sku.capacity == 2
        assert sets.get("local", "busy").sku.capacity == 0  # after a throttled answer
        assert sets.get_instance_view("local", "cpu").virtual_machine.statuses_summary
        both = list(instances.list("local", "cpu", expand="instanceView"))
        assert len(both) == 2 and both[0].instance_view.statuses, both
        assert instances.get("local", "cpu", both[0].instance_id).vm_id == both[0].vm_id
        assert instances.get_instance_view("local", "cpu", both[0].instance_id).statuses
        sets.begin_delete_instances("local", "cpu", {"instanceIds": [both[0].instance_id]}).result()
        assert [i.vm_id for i in instances.list("local", "cpu")] == [both[1].vm_id]
        with fails(ResourceNotFoundError):
            sets.get("local", "none")
        try:
            sets.begin_restart("local", "cpu")
            raise AssertionError("a scale set is restarted")
        except HttpResponseError as e:
            assert (e.status_code, e.error.code) == (405, "MethodNotAllowed"), e
    with manager("wrong") as c, fails(ClientAuthenticationError):
        c.virtual_machine_scale_sets.get("local", "cpu")


WEB = {"transport_type": TransportType.AmqpOverWebsocket}
check("TCP", lambda: round_trip(PLAIN))
check("TLS", lambda: round_trip(SECURE))
check("WebSocket over TLS", lambda: round_trip(SECURE, **WEB))
check("refusals", refusal)
check("throttling", lambda: sent("busy"))
check("a lost link", lambda: sent("cut"))
check("a lost connection", lambda: sent("gone"))
check("an answer that is lost", lambda: sent("lost"))
check("a full batch", full_batch)
check("dead letters", dead_letters)
check("sessions", sessions)
check("administration", administration)
for name, test in {
    "TCP": lambda: async_round_trip(PLAIN),
    "TLS": lambda: async_round_trip(SECURE),
    "WebSocket": lambda: async_round_trip(SECURE, **WEB),
    "refusals": async_refusal,
    "throttling": lambda: async_sent("async-busy"),
    "a lost link": lambda: async_sent("async-cut"),
    "a lost connection": lambda: async_sent("async-gone"),
    "an answer that is lost": lambda: async_sent("async-lost"),
    "dead letters": async_dead_letters,
    "sessions": async_sessions,
    "administration": async_administration,
    "tables": async_tables,
}.items():
    check("asyncio, " + name, lambda: asyncio.run(asyncio.wait_for(test(), 40)))
check("tables by HTTP", lambda: tables(os.environ["TABLES"], "plain"))
check("tables by https", lambda: tables(os.environ["TABLES_TLS"], "secure"))
check("tables, throttling and a lost connection", tables_fail)
check("scale sets", scale_sets)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
