// Starts the Service Bus stand-in, then node's own test runner with what the broker says of itself
// in the environment: clients trust its certificate only if that is set before they start.

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const { start } = require("./start.js");

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "bus-js-"));

// The rest of what the tests use they create by themselves; keys of a namespace are declared.
const topology = {
  serviceBus: {
    authorizationRules: ["Send", "Listen"].map((right) => ({
      name: `namespace-${right}`,
      primaryKey: `namespace-${right}-1`,
      secondaryKey: `namespace-${right}-2`,
      rights: [right],
    })),
  },
};

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

async function main() {
  let broker;
  try {
    const further = ["--ephemeral", "--operations", "127.0.0.1:0", "--faults"];
    const started = await start({ directory, topology, further });
    broker = started.broker;
    return await run(started.said);
  } catch (error) {
    console.error(error.message);
    return 1;
  } finally {
    broker?.kill();
    fs.rmSync(directory, { recursive: true, force: true });
  }
}

main().then((code) => {
  process.exitCode = code;
});
