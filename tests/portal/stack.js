/** @file Starts a stack on free ports before the first test, and stops it after the last. */

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

/** Debug builds of a dozen processes on two busy cores. */
const STARTED_WITHIN_MS = 120_000;

const target = process.env.CARGO_TARGET_DIR ?? new URL('../../target', import.meta.url).pathname;

/** Where screenshots and the log of the stack go. */
export const OUTPUT = `${target}/portal`;

export default async function start() {
  const directory = `${OUTPUT}/stack`;
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const ready = `${directory}/ready.json`;
  const log = openSync(`${directory}/log`, 'w');
  const ports = ['--port', '--cosmos-port', '--bus-port', '--queue-port', '--bank-port', '--grid-port', '--subscriber-port'].flatMap((option) => [option, '0']);
  const stack = spawn(`${target}/debug/stack`, ['up', '--no-build', '--until-stdin-closes', ...ports, '--queue-lease-seconds', '15', '--apps-dir', `${directory}/apps`, '--ready-file', ready], { stdio: ['pipe', log, log] });
  const gone = new Promise((resolve) => stack.once('exit', resolve));
  let exited = false;
  void gone.then(() => (exited = true));
  const deadline = Date.now() + STARTED_WITHIN_MS;
  while (!existsSync(ready)) {
    if (exited || Date.now() > deadline) throw new Error(`the stack did not start:\n${readFileSync(`${directory}/log`, 'utf8')}`);
    await pause(100);
  }
  const { http, cosmos, cosmosKey } = JSON.parse(readFileSync(ready, 'utf8'));
  Object.assign(process.env, { PORTAL_URL: http, COSMOS_URL: cosmos, COSMOS_KEY: cosmosKey });
  return async () => {
    stack.stdin.end();
    await gone;
  };
}
