// Drops one job on the queue of a local instance: npm install --no-save @azure/service-bus
import { readFileSync } from "node:fs";
import { ServiceBusClient } from "@azure/service-bus";

const connection = process.env.DSVM_SERVICEBUS ?? JSON.parse(readFileSync(".dsvm/instance.json", "utf8")).serviceBus;
const client = new ServiceBusClient(connection);
const job = { id: process.argv[2] ?? "from-javascript", pool: "cpu", command: ["echo", "hello from JavaScript"] };
await client.createSender("jobs").sendMessages({ body: job, contentType: "application/json" });
await client.close();
console.log(job.id);
