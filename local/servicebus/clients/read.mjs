// Peeks at queues with the JavaScript SDK, reads each message as a whole, and prints how many
// there are; see read.py.
import assert from "node:assert";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const { ServiceBusClient } = require("@azure/service-bus");
const Long = require("long");

const client = new ServiceBusClient(process.env.BUS);
const found = {};
for (const queue of process.argv.slice(2)) {
  const receiver = client.createReceiver(queue);
  found[queue] = 0;
  let from = Long.ZERO;
  for (;;) {
    const page = await receiver.peekMessages(50, { fromSequenceNumber: from });
    if (page.length === 0) break;
    for (const m of page) {
      assert(m.messageId && JSON.stringify([m.applicationProperties, m.correlationId, m.body]));
    }
    found[queue] += page.length;
    from = page.at(-1).sequenceNumber.add(1);
  }
}
await client.close();
console.log(JSON.stringify(found));
