/**
 * Starts the Storage queue stand-in for the official JavaScript SDK, or Azurite to compare with.
 *
 * BULKHEAD_QUEUE_SERVICE=azurite  runs the same tests against Microsoft's emulator
 * CARGO_TARGET_DIR                where the `stack` executable has been built
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import path from "node:path";

import { QueueServiceClient } from "@azure/storage-queue";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const REPOSITORY = path.resolve(HERE, "../../..");
const TARGET = path.resolve(REPOSITORY, process.env.CARGO_TARGET_DIR ?? "target");
const TOPOLOGY = path.join(REPOSITORY, "tests/sdk/queue/topology.json");
const START_MS_MAX = 60_000;

/** Published by Microsoft for all emulators, hence no secret. */
export const ACCOUNT = "devstoreaccount1";
export const KEY =
  "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

export const IS_AZURITE = process.env.BULKHEAD_QUEUE_SERVICE === "azurite";

/** A refusal must show at once, not after the SDK has tried it four times. */
export const ONCE = { retryOptions: { maxTries: 1 } };

function command(port, data) {
  if (IS_AZURITE) {
    const azurite = path.join(HERE, "node_modules/azurite/dist/src/queue/main.js");
    // The SDK is newer than any emulator; Azurite then wants to be told that this is known.
    const options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"];
    const listen = ["--queueHost", "127.0.0.1", "--queuePort", String(port)];
    return [process.execPath, [azurite, ...listen, ...options]];
  }
  const listen = ["--listen", `127.0.0.1:${port}`, "--topology", TOPOLOGY];
  if (data) listen.push("--data", data);
  return [path.join(TARGET, "debug/stack"), ["serve", "queue", "--until-stdin-closes", ...listen]];
}

/**
 * A running service.
 *
 * @param {number} port where to listen; 0 takes a free one
 * @param {string} [data] the directory in which the stand-in keeps its account
 * @returns {Promise<{connectionString: string, address: string, stop: (signal?: string) => Promise<void>}>}
 */
export async function start(port = 0, data = undefined) {
  const [program, parameters] = command(port, data);
  const child = spawn(program, parameters, { stdio: ["pipe", "pipe", "inherit"], cwd: REPOSITORY });
  const ended = once(child, "exit");
  const stop = async (signal = "SIGTERM") => {
    child.kill(signal);
    await ended;
  };
  const lines = createInterface({ input: child.stdout });
  const late = AbortSignal.timeout(START_MS_MAX);
  const address = await new Promise((resolve, reject) => {
    late.addEventListener("abort", () => reject(new Error("the service has not said where it listens")));
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`the service ended with ${code}`)));
    lines.on("line", (line) => {
      // Azurite says beforehand where it is going to listen.
      const found = /starting/.test(line) ? null : /127\.0\.0\.1:\d+/.exec(line);
      if (found) resolve(found[0]);
    });
  });
  const connectionString =
    `DefaultEndpointsProtocol=http;AccountName=${ACCOUNT};AccountKey=${KEY};` +
    `QueueEndpoint=http://${address}/${ACCOUNT};`;
  return { connectionString, address, stop };
}

/** Polls until `condition` returns something true, and returns it. */
export async function until(condition, what, withinMs = 30_000) {
  const end = Date.now() + withinMs;
  while (Date.now() < end) {
    const found = await condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what}: not within ${withinMs} ms`);
}

/** A client of the whole account. */
export function account(service) {
  return QueueServiceClient.fromConnectionString(service.connectionString, ONCE);
}
