// Starts the Service Bus stand-in as a process and says what it says of itself.
//
// CARGO_TARGET_DIR  where the `stack` executable was built

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");

const START_MS_MAX = 30_000;
const HERE = "127.0.0.1:0";

const repository = path.resolve(__dirname, "../../..");
const target = process.env.CARGO_TARGET_DIR ?? path.join(repository, "target");

function parsed(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

// A broker on free ports that keeps its files in `directory`; `further` are arguments of `serve bus`.
async function start({ directory, topology, certificate, further }) {
  const ready = path.join(directory, "ready.json");
  fs.rmSync(ready, { force: true });
  fs.writeFileSync(path.join(directory, "topology.json"), JSON.stringify(topology));
  const broker = spawn(
    path.join(target, "debug", "stack"),
    [
      ...["serve", "bus", "--listen", HERE, "--tls-listen", HERE, "--admin-listen", HERE],
      ...["--topology", path.join(directory, "topology.json"), "--ready-file", ready],
      ...["--certificate", certificate ?? path.join(directory, "certificate"), ...further],
    ],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const ended = new Promise((resolve) => broker.on("exit", (code, signal) => resolve(signal ?? code)));
  const deadline = Date.now() + START_MS_MAX;
  while (broker.exitCode === null && Date.now() < deadline) {
    const said = parsed(ready);
    if (said) return { broker, ended, said };
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  broker.kill("SIGKILL");
  throw new Error("the broker did not start");
}

module.exports = { start };
