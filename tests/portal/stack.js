/** @file Starts a stack on free ports before the first test, and stops it after the last. */

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

/** Debug builds of a dozen processes on two busy cores. */
export const STARTED_WITHIN_MS = 120_000;

const target = process.env.CARGO_TARGET_DIR ?? new URL('../../target', import.meta.url).pathname;

/** Where screenshots and the logs of the stacks go. */
export const OUTPUT = `${target}/portal`;

/** The executable. */
export const STACK = `${target}/debug/stack`;

/** The arguments of a stack on free ports, which writes where it is to `ready`. @param {string} directory @param {string} ready */
export const arguments_ = (directory, ready) => ['up', '--no-build', ...['--port', '--cosmos-port', '--bus-port', '--queue-port', '--bank-port', '--grid-port', '--subscriber-port'].flatMap((option) => [option, '0']), '--queue-lease-seconds', '15', '--apps-dir', `${directory}/apps`, '--ready-file', ready];

/** An empty directory. @param {string} name */
export function emptied(name) {
  const directory = `${OUTPUT}/${name}`;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  return directory;
}

/**
 * Starts one more stack.
 * @param {string} name of its directory
 * @param {string[]} [further] arguments
 * @returns {Promise<{ endpoints: any, stop: () => Promise<void> }>}
 */
export async function launch(name, further = []) {
  const directory = emptied(name);
  const ready = `${directory}/ready.json`;
  const log = openSync(`${directory}/log`, 'w');
  const stack = spawn(STACK, [...arguments_(directory, ready), '--until-stdin-closes', ...further], { stdio: ['pipe', log, log] });
  const gone = new Promise((resolve) => stack.once('exit', resolve));
  let exited = false;
  void gone.then(() => (exited = true));
  const deadline = Date.now() + STARTED_WITHIN_MS;
  while (!existsSync(ready)) {
    if (exited || Date.now() > deadline) throw new Error(`the stack did not start:\n${readFileSync(`${directory}/log`, 'utf8')}`);
    await pause(100);
  }
  const stop = async () => {
    stack.stdin.end();
    await gone;
  };
  return { endpoints: JSON.parse(readFileSync(ready, 'utf8')), stop };
}

export default async function start() {
  const { endpoints, stop } = await launch('stack');
  const { http, cosmos, cosmosKey } = endpoints;
  Object.assign(process.env, { PORTAL_URL: http, COSMOS_URL: cosmos, COSMOS_KEY: cosmosKey });
  return stop;
}
