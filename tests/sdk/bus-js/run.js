// Starts the Service Bus stand-in, then node's own test runner with what the broker says of itself
// in the environment: clients trust its certificate only if that is set before they start.
//
// CARGO_TARGET_DIR  where the `stack` executable was built

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const START_MS_MAX = 30_000;

const repository = path.resolve(__dirname, "../../..");
const target = process.env.CARGO_TARGET_DIR ?? path.join(repository, "target");
const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bus-js-"));
const ready = path.join(directory, "ready.json");
const topology = path.join(directory, "topology.json");
fs.writeFileSync(topology, '{"serviceBus": {}}');

const broker = spawn(
  path.join(target, "debug", "stack"),
  [
    ...["serve", "bus", "--ephemeral", "--listen", "127.0.0.1:0", "--tls-listen", "127.0.0.1:0"],
    ...["--admin-listen", "127.0.0.1:0", "--certificate", path.join(directory, "certificate")],
    ...["--topology", topology, "--ready-file", ready],
  ],
  { stdio: ["ignore", "ignore", "inherit"] },
);

function readyNow() {
  try {
    return JSON.parse(fs.readFileSync(ready, "utf8"));
  } catch {
    return undefined;
  }
}

async function wait() {
  const deadline = Date.now() + START_MS_MAX;
  while (broker.exitCode === null && Date.now() < deadline) {
    const said = readyNow();
    if (said) return said;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("the broker did not start");
}

function run(said) {
  const files = fs.readdirSync(__dirname).filter((name) => name.endsWith(".test.js"));
  const tests = spawn(process.execPath, ["--test", ...process.argv.slice(2), ...files], {
    cwd: __dirname,
    stdio: "inherit",
    env: {
      ...process.env,
      BULKHEAD_BUS_READY: JSON.stringify(said),
      NODE_EXTRA_CA_CERTS: said.certificateAuthority,
    },
  });
  return new Promise((resolve) => tests.on("exit", (code) => resolve(code ?? 1)));
}

wait()
  .then(run)
  .catch((error) => {
    console.error(error.message);
    return 1;
  })
  .then((code) => {
    broker.kill();
    fs.rmSync(directory, { recursive: true, force: true });
    process.exitCode = code;
  });
