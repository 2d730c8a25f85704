/**
 * Starts the Event Grid stand-in, the sample subscriber and the Storage queues for the official
 * JavaScript SDK, with the topics of tests/sdk/grid.
 *
 * CARGO_TARGET_DIR  where the `stack` executable has been built
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const REPOSITORY = path.resolve(HERE, "../../..");
const TARGET = path.resolve(REPOSITORY, process.env.CARGO_TARGET_DIR ?? "target");
const TOPOLOGY = path.join(REPOSITORY, "tests/sdk/grid/topology.json");
const START_MS_MAX = 60_000;

/** Published in docs/local-services.md for the stand-in, hence no secret. */
export const KEY = "bG9jYWwtZXZlbnQtZ3JpZC1rZXktZ29vZC1mb3Itbm8=";

/** A refusal must show at once, not after the SDK has tried it four times; and there is no TLS. */
export const ONCE = { retryOptions: { maxRetries: 0 }, allowInsecureConnection: true };

/** One service by itself: its address, and how to end it. */
async function serve(role, ...options) {
  const parameters = ["serve", role, "--until-stdin-closes", "--listen", "127.0.0.1:0", ...options];
  const child = spawn(path.join(TARGET, "debug/stack"), parameters, {
    stdio: ["pipe", "pipe", "inherit"],
    cwd: REPOSITORY,
  });
  const ended = once(child, "exit");
  const late = AbortSignal.timeout(START_MS_MAX);
  const address = await new Promise((resolve, reject) => {
    late.addEventListener("abort", () => reject(new Error(`${role} has not said where it listens`)));
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`${role} ended with ${code}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = /127\.0\.0\.1:\d+/.exec(line);
      if (found) resolve(found[0]);
    });
  });
  const stop = async () => {
    child.kill("SIGTERM");
    await ended;
  };
  return { address, stop };
}

/**
 * All of them.
 *
 * @returns {Promise<{topic: (name: string) => string, delivered: Function, stop: () => Promise<void>}>}
 */
export async function start() {
  const [subscriber, queue] = await Promise.all([
    serve("subscriber"),
    serve("queue", "--topology", TOPOLOGY),
  ]);
  const fill = [
    `SUBSCRIBER_URL=http://${subscriber.address}`,
    `QUEUE_URL=http://${queue.address}/devstoreaccount1`,
  ].flatMap((each) => ["--fill", each]);
  const letters = await mkdtemp(path.join(tmpdir(), "grid-js-"));
  const options = ["--topology", TOPOLOGY, "--dead-letters", letters, ...fill];
  const grid = await serve("grid", ...options);
  const delivered = async (subject, count) => {
    const end = Date.now() + 30_000;
    while (Date.now() < end) {
      const answer = await fetch(`http://${subscriber.address}/events?subject=${subject}`);
      const events = (await answer.json()).events.map((entry) => entry.event);
      if (events.length >= count) return events;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`not ${count} events about ${subject}`);
  };
  return {
    topic: (name) => `http://${grid.address}/${name}/api/events`,
    delivered,
    stop: async () => {
      await Promise.all([grid.stop(), subscriber.stop(), queue.stop()]);
      await rm(letters, { recursive: true });
    },
  };
}
