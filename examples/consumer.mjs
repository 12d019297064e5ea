// The same as consumer.py in short: what is said there of each case is true here.
// Usage: AMQP_URL=... DATABASE_URL=... node consumer.mjs campaign.import
//
// When a server is away it ends with status 1, for its supervisor to start it again. The database
// comes first at the start: while that is away, no message is taken, so none counts as tried.

import { readFile } from "node:fs/promises";
import amqp from "amqplib";
import pg from "pg";

const QUEUE = process.argv[2];
const QUEUES = ["campaign.import", "campaign.schedule", "campaign.start"];
if (!QUEUES.includes(QUEUE)) throw new Error(`name one of ${QUEUES.join(", ")}`);
const SCHEMA = `${QUEUE.replace(".", "_")}_inbox`;

const database = new pg.Client({
  connectionString: process.env.DATABASE_URL,
  options: `-c search_path=${SCHEMA}`,
  connectionTimeoutMillis: 10_000,
  query_timeout: 10_000,
});
const end = (reason) => {
  console.error("ending:", reason);
  process.exit(1);
};
// Without a listener, it would end as well, but say less.
database.on("error", end);
async function one(sql, ...values) {
  const { rows } = await database.query({ text: sql, values, rowMode: "array" });
  return rows[0]?.[0];
}

async function transaction(work) {
  await database.query("BEGIN");
  const result = await work();
  await database.query("COMMIT");
  return result;
}

function parse(body) {
  const event = JSON.parse(body);
  const { id, name, status, version } = event.data.campaign;
  const texts = [event.id, event.source, event.type, event.sequence, name, status];
  const usable = event.specversion === "1.0"
    && texts.every((text) => typeof text === "string" && text && !text.includes("\0"))
    && /^0*[1-9][0-9]{0,14}$/.test(event.sequence)
    && [id, version].every((number) => Number.isSafeInteger(number) && number > 0);
  if (!usable) throw new Error("something is missing or unusable");
  return { ...event, sequence: Number(event.sequence), campaign: { id, name, status, version } };
}

async function work({ type, campaign: { id, name, status, version } }) {
  if (type === "campaign.deleted") return one("DELETE FROM campaigns WHERE id = $1", id);
  return one(
    `INSERT INTO campaigns AS known (id, name, status, version) VALUES ($1, $2, $3, $4)
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, status = excluded.status,
       version = excluded.version, events = known.events + 1`,
    id, name, status, version,
  );
}

const LOCKED = "SELECT sequence FROM positions WHERE campaign_id = $1 FOR UPDATE";
const NOTED = "INSERT INTO inbox VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING true";
const WAITING = "SELECT body FROM inbox WHERE campaign_id = $1 AND sequence = $2";
const APPLIED = "UPDATE inbox SET body = NULL WHERE campaign_id = $1 AND sequence = $2";

async function take({ id: eventId, sequence, campaign: { id } }, body) {
  await one("INSERT INTO positions VALUES ($1, 0) ON CONFLICT DO NOTHING", id);
  let last = Number(await one(LOCKED, id)); // pg reads bigint as text.
  if (sequence <= last) return "had come before";
  if (!(await one(NOTED, eventId, id, sequence, body))) return "had come before";
  for (let next; (next = await one(WAITING, id, last + 1)); ) {
    await work(parse(next));
    await one(APPLIED, id, ++last);
  }
  await one("UPDATE positions SET sequence = $2 WHERE campaign_id = $1", id, last);
  return last < sequence ? `waits for ${last + 1}` : `applied up to ${last}`;
}

async function settle(channel, message) {
  let body, event;
  try {
    body = new TextDecoder("utf-8", { fatal: true }).decode(message.content);
    event = parse(body);
  } catch (error) {
    const { messageId } = message.properties;
    console.error("message", messageId, "goes to the dead letters:", error.message);
    return channel.nack(message, false, false);
  }
  const outcome = await transaction(() => take(event, body));
  console.error(event.campaign.id, event.sequence, outcome);
  channel.ack(message);
}

await database.connect();
const tables = await readFile(new URL("inbox.sql", import.meta.url), "utf8");
await transaction(async () => {
  await one("SELECT pg_advisory_xact_lock(hashtext('inbox'))");
  await database.query(`CREATE SCHEMA IF NOT EXISTS ${SCHEMA}; ${tables}`);
});

const url = new URL(process.env.AMQP_URL);
url.searchParams.set("heartbeat", 5); // The default notices a dead peer after minutes.
const broker = await amqp.connect(url.href, { timeout: 10_000 });
broker.on("error", end).on("close", () => end("the broker is gone"));
const channel = await broker.createChannel();
channel.on("error", end);
await channel.prefetch(1);
let inHand = Promise.resolve();
const { consumerTag } = await channel.consume(QUEUE, (message) => {
  if (!message) return end("the queue is gone");
  inHand = settle(channel, message).catch(end);
});
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, async () => {
    await channel.cancel(consumerTag);
    await inHand;
    await channel.close(); // Sends the last acknowledgement before.
    process.exit(0);
  });
}
console.error("consuming", QUEUE);
