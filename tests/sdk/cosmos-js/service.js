// Starts the local service and connects the official SDK to it.
//
// The service is the `stack` executable of the debug build, or what BULKHEAD_COSMOS_COMMAND says, in
// which {topology} and {ready} are replaced. BULKHEAD_COSMOS_RANGES cuts every container into that many
// partition key ranges; the tests hold with one and with several.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { CosmosClient } from "@azure/cosmos";

const here = path.dirname(fileURLToPath(import.meta.url));
const repository = path.resolve(here, "../../..");
const target = process.env.CARGO_TARGET_DIR ?? path.join(repository, "target");
const command =
  process.env.BULKHEAD_COSMOS_COMMAND ??
  `${path.join(target, "debug", "stack")} serve cosmos --listen 127.0.0.1:0 ` +
    "--topology {topology} --ready-file {ready}";
const startDeadlineMs = 30_000;
export const ranges = Number(process.env.BULKHEAD_COSMOS_RANGES ?? 1);

// Published by Microsoft for all emulators, hence no secret.
export const key =
  "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
export const readOnlyKey = Buffer.from("a key that only reads").toString("base64");

/** A running service; further options are those of `stack serve cosmos`. */
export async function start(...options) {
  const folder = mkdtempSync(path.join(tmpdir(), "cosmos-js-"));
  const ready = path.join(folder, "ready.json");
  const topology = path.join(here, "../cosmos/topology.json");
  const words = command.split(" ").map((word) =>
    word.replace("{topology}", topology).replace("{ready}", ready),
  );
  const [program, ...given] = words;
  if (!options.includes("--ranges")) {
    options = [...options, "--ranges", `${ranges}`];
  }
  const child = spawn(program, [...given, ...options], { stdio: ["ignore", "ignore", "inherit"] });
  const end = Date.now() + startDeadlineMs;
  while (!existsSync(ready)) {
    if (child.exitCode !== null || Date.now() > end) {
      throw new Error(`the service did not start (${child.exitCode})`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const endpoint = `http://${JSON.parse(readFileSync(ready, "utf8")).address}`;
  return {
    endpoint,
    client: (settings = {}) => new CosmosClient({ endpoint, key, ...settings }),
    stop: async (signal = "SIGTERM") => {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill(signal);
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A container of the test's own. */
export async function ownContainer(client, definition = {}) {
  const { database } = await client.databases.createIfNotExists({ id: "js" });
  const id = `own-${randomUUID()}`;
  const { container } = await database.containers.create({
    id,
    partitionKey: { paths: ["/pk"], kind: "Hash", version: 2 },
    defaultTtl: -1,
    ...definition,
  });
  return container;
}

/** The error that `promise` ends with. */
export async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("this should have failed");
}

/** Polls until `condition` resolves to something true, and returns it. */
export async function eventually(condition, what) {
  const end = Date.now() + startDeadlineMs;
  for (;;) {
    const result = await condition();
    if (result) {
      return result;
    }
    if (Date.now() > end) {
      throw new Error(`${what} did not happen`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
