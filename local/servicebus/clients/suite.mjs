// Judges the local servers with the SDKs of JavaScript, and plain AMQP with rhea. The
// environment names them; see suite.py.
import assert from "node:assert";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const { ServiceBusClient, ServiceBusAdministrationClient } = require("@azure/service-bus");
const { TableServiceClient, TableClient } = require("@azure/data-tables");
const { ComputeManagementClient } = require("@azure/arm-compute");
const WebSocket = require("ws");
const rhea = require("rhea");

const { BUS, BUS_TLS, TABLES, TABLES_TLS, ARM_TLS, KEY_NAME, KEY } = process.env;
const retryOptions = { maxRetries: 2, retryDelayInMs: 200, timeoutInMs: 5000 };
let passed = 0, failed = 0;

async function check(name, test) {
  const late = new Promise((_, no) => setTimeout(no, 30_000, new Error("it takes too long")).unref());
  try {
    await Promise.race([test(), late]);
    passed++;
  } catch (e) {
    failed++;
    console.log("FAILED", name, e);
  }
}

async function using(options, test) {
  const client = new ServiceBusClient(options.text ?? BUS, { retryOptions, ...options });
  try {
    return await test(client);
  } finally {
    await client.close();
  }
}

async function take(receiver, n) {
  const out = [];
  while (out.length < n) {
    const got = await receiver.receiveMessages(n - out.length, { maxWaitTimeInMs: 5000 });
    assert(got.length > 0, `${out.length} messages came, not ${n}`);
    out.push(...got);
  }
  return out;
}

const roundTrip = (options, queue = "jobs") => using(options, async (c) => {
  const sender = c.createSender(queue), receiver = c.createReceiver(queue);
  await sender.sendMessages([...Array(20).keys()].map((i) => ({ body: Buffer.alloc(100), messageId: `${i}`, correlationId: "c" })));
  const got = await take(receiver, 20);
  assert.deepEqual(got.map((m) => m.messageId), [...Array(20).keys()].map(String));
  for (const m of got) await receiver.completeMessage(m);
  assert.equal((await receiver.peekMessages(5)).length, 0);
});

await check("TCP", () => roundTrip({}));
await check("TLS", () => roundTrip({ text: BUS_TLS }));
await check("WebSocket over TLS", () => roundTrip({ text: BUS_TLS, webSocketOptions: { webSocket: WebSocket } }));
await check("throttling", () => roundTrip({}, "busy"));
await check("a lost link", () => roundTrip({}, "cut"));
await check("a lost connection", () => roundTrip({}, "gone"));
await check("an answer that is lost", () => using({}, async (c) => {
  await c.createSender("lost").sendMessages({ body: "x" });
  await take(c.createReceiver("lost", { receiveMode: "receiveAndDelete" }), 1);
}));
await check("refusals", () => using({}, async (c) => {
  await assert.rejects(c.createSender("jobs").sendMessages({ body: Buffer.alloc(300_000) }), /exceed/i);
  await assert.rejects(c.createSender("nothing").sendMessages({ body: "x" }), /could not be found/);
  await assert.rejects(using({ text: BUS.replace("SharedAccessKey=", "SharedAccessKey=d3Jvbmc=;X="), retryOptions: { maxRetries: 0 } },
    (wrong) => wrong.createSender("jobs").sendMessages({ body: "x" })), { code: "UnauthorizedAccess" });
}));
await check("full batches", () => using({}, async (c) => {
  const sender = c.createSender("jobs"), receiver = c.createReceiver("jobs", { receiveMode: "receiveAndDelete" });
  for (const size of [10, 1000, 100_000]) {
    const batch = await sender.createMessageBatch();
    let n = 0;
    while (batch.tryAddMessage({ body: "x".repeat(size), subject: "s".repeat(50), applicationProperties: { a: "b".repeat(50) } })) n++;
    await sender.sendMessages(batch);
    await take(receiver, n);
  }
}));
await check("sessions", () => using({}, async (c) => {
  await c.createSender("sessions").sendMessages({ body: "x", sessionId: "js" });
  const receiver = await c.acceptSession("sessions", "js");
  await receiver.setSessionState("state");
  assert.equal(await receiver.getSessionState(), "state");
  for (const m of await take(receiver, 1)) await receiver.completeMessage(m);
}));
await check("dead letters", () => using({}, async (c) => {
  const receiver = c.createReceiver("jobs");
  await c.createSender("jobs").sendMessages({ body: "x", replyTo: "r" });
  const [m] = await take(receiver, 1);
  await receiver.deadLetterMessage(m, { deadLetterReason: "why", deadLetterErrorDescription: "because" });
  const dead = c.createReceiver("jobs", { subQueueType: "deadLetter" });
  const [d] = await take(dead, 1);
  assert.equal(d.deadLetterReason, "why");
  await dead.completeMessage(d);
}));
await check("administration", async () => {
  const admin = new ServiceBusAdministrationClient(BUS_TLS);
  const made = await admin.createQueue("js-made", { maxDeliveryCount: 3 });
  assert.equal(made.enableExpress, false);
  assert.equal(made.maxDeliveryCount, 3);
  await using({}, (c) => c.createSender("js-made").sendMessages({ body: "x" }));
  const counts = await admin.getQueueRuntimeProperties("js-made");
  assert.equal(counts.activeMessageCount, 1);
  assert.equal((await admin.getNamespaceProperties()).messagingSku, "Standard");
  await admin.deleteQueue("js-made");
  await assert.rejects(admin.getQueue("js-made"));
});

async function tables(text, name) {
  const service = TableServiceClient.fromConnectionString(text, { allowInsecureConnection: true });
  const table = TableClient.fromConnectionString(text, name, { allowInsecureConnection: true });
  await service.createTable(name);
  const row = (i) => ({ partitionKey: "p", rowKey: `${i}`.padStart(3, "0"), n: i, big: 1n << 40n, text: "it's é",
    id: { type: "Guid", value: "00000000-0000-0000-0000-000000000007" }, bytes: new Uint8Array([1, 2]), at: new Date("2026-01-02T03:04:05Z") });
  await table.submitTransaction([...Array(50).keys()].map((i) => ["create", row(i)]));
  let n = 0;
  for await (const page of table.listEntities({ queryOptions: { filter: "n ge 10 and n lt 35" } }).byPage({ maxPageSize: 10 })) n += page.length;
  assert.equal(n, 25);
  const one = await table.getEntity("p", "007");
  assert.deepEqual([one.n, one.big, one.text, one.at.toISOString()], [7, 1n << 40n, "it's é", "2026-01-02T03:04:05.000Z"]);
  const change = () => table.updateEntity({ partitionKey: "p", rowKey: "007", n: 70 }, "Merge", { etag: one.etag });
  await change();
  await assert.rejects(change(), { statusCode: 412 });
  await assert.rejects(table.createEntity(row(7)), { statusCode: 409 });
  await assert.rejects(table.submitTransaction([["create", row(900)], ["create", row(7)]]), { statusCode: 409 });
  await assert.rejects(table.getEntity("p", "900"), { statusCode: 404 });
  await service.deleteTable(name);
  const wrong = text.replace("AccountKey=", "AccountKey=d3Jvbmc=;X=");
  await assert.rejects(TableServiceClient.fromConnectionString(wrong, { allowInsecureConnection: true }).createTable("wrong"), { statusCode: 403 });
}

await check("tables by HTTP", () => tables(TABLES, "plain"));
await check("tables by https", () => tables(TABLES_TLS, "secure"));
await check("tables, throttling and a lost connection", async () => {
  for (const name of ["busy", "gone"]) {
    const table = TableClient.fromConnectionString(TABLES_TLS, name);
    await table.createTable();
    await table.createEntity({ partitionKey: "p", rowKey: "r" });
    assert.equal((await table.getEntity("p", "r")).rowKey, "r");
  }
});

await check("scale sets", async () => {
  const manager = (token) => new ComputeManagementClient(
    { getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3600_000 }) },
    "00000000-0000-4000-8000-000000000001", { endpoint: ARM_TLS, credentials: { scopes: [`${ARM_TLS}/.default`] } });
  const { virtualMachineScaleSets: sets, virtualMachineScaleSetVMs: instances } = manager("arm-token");
  const all = async (list) => { const out = []; for await (const item of list) out.push(item); return out; };
  assert.deepEqual((await all(sets.list("local"))).map((s) => s.name), ["busy", "cpu"]);
  assert.deepEqual((await all(sets.listAll())).map((s) => s.name), ["busy", "cpu"]);
  assert.equal((await sets.get("local", "cpu")).sku.capacity, 2);
  assert.equal((await sets.get("local", "busy")).sku.capacity, 0); // after a throttled answer
  assert((await sets.getInstanceView("local", "cpu")).virtualMachine.statusesSummary.length > 0);
  const both = await all(instances.list("local", "cpu", { expand: "instanceView" }));
  assert.equal(both.length, 2);
  assert.equal((await instances.get("local", "cpu", both[0].instanceId)).vmId, both[0].vmId);
  assert((await instances.getInstanceView("local", "cpu", both[0].instanceId)).statuses.length > 0);
  await sets.deleteInstances("local", "cpu", { instanceIds: [both[0].instanceId] }, { updateIntervalInMs: 200 });
  assert.deepEqual((await all(instances.list("local", "cpu"))).map((i) => i.instanceId), [both[1].instanceId]);
  await assert.rejects(sets.get("local", "none"), { statusCode: 404, code: "ResourceNotFound" });
  await assert.rejects(async () => sets.restart("local", "cpu"), { statusCode: 405, code: "MethodNotAllowed" });
  await assert.rejects(manager("wrong").virtualMachineScaleSets.get("local", "cpu"), { statusCode: 401 });
});

// Plain AMQP: the key goes in SASL PLAIN, and there are no claims.
const { hostname, port } = new URL(BUS.match(/Endpoint=sb:(\/\/[^;]*)/)[1].replace(/^/, "http:"));
const plain = (password) => new Promise((done, fail) => {
  const c = rhea.create_container().connect({ host: hostname, port: +port, username: KEY_NAME, password, reconnect: false });
  c.once("sendable", ({ sender }) => sender.send({ body: "x", application_properties: { id: rhea.types.wrap_uuid(Buffer.alloc(16)) } }));
  c.once("accepted", () => { c.close(); done(); });
  c.once("connection_error", fail);
  c.once("disconnected", ({ error }) => fail(error ?? new Error("disconnected")));
  c.open_sender("jobs");
});
await check("SASL PLAIN", () => plain(KEY));
await check("SASL PLAIN, a wrong key", () => assert.rejects(plain("wrong")));

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
