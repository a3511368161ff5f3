// Uses the TypeScript client that openapi-generator has made, and is compiled with it, beside
// its index.ts: submits a job, waits, reads its log, and reports usage. Argument: the file that
// describes the instance.
import { readFileSync } from "node:fs";
import { Configuration, JobsApi, UsageApi, type Job } from "./index";

async function use(file: string): Promise<void> {
  const instance: { url: string; key: string } = JSON.parse(readFileSync(file, "utf8"));
  const configuration = new Configuration({ basePath: instance.url, apiKey: () => instance.key });
  const jobs = new JobsApi(configuration);
  const id = "openapi-generator-typescript";
  await jobs.submitJob({ submitJobRequest: { pool: "cpu", id, command: ["echo", "hello from " + id] } });
  let job: Job;
  do {
    await new Promise((go) => setTimeout(go, 200));
    job = await jobs.showJob({ id });
  } while (!job.endedAt);
  if (job.state !== "succeeded") throw new Error(JSON.stringify(job));
  const log: string = await jobs.readLog({ id, stream: "stdout" });
  if (log !== "hello from " + id + "\n") throw new Error(JSON.stringify(log));
  const report = await new UsageApi(configuration).reportUsage({ by: "job" });
  if (!report.items.some((line) => line.job === id)) throw new Error(JSON.stringify(report));
  console.log(JSON.stringify(report.totals));
}

void use(process.argv[2]);
