/**
 * @file What a person meets in a terminal: the keys of a running stack, sources that are written
 * while it runs, and its lines as they come. The terminal is a real one, which Python's `pty` makes.
 */

import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, live, test } from './portal.js';
import { OUTPUT, STACK, STARTED_WITHIN_MS, arguments_, emptied } from './stack.js';

const REPOSITORY = new URL('../../', import.meta.url).pathname;

/** Building the handler anew and starting six hosts again, on two busy cores. */
const SWAPPED_WITHIN_MS = 300_000;

/** Pause between two orders: a few are in flight whenever an app is swapped. */
const BETWEEN_ORDERS_MS = 300;

/** A program, what it has printed so far, and a way to wait for more. */
class Program {
  text = '';

  /** @param {string} program @param {string[]} args @param {Record<string, string | undefined>} [environment] */
  constructor(program, args, environment = process.env) {
    this.process = spawn(program, args, { env: environment });
    this.gone = new Promise((resolve) => this.process.once('exit', (code, signal) => resolve(signal ?? code)));
    for (const output of [this.process.stdout, this.process.stderr]) output.setEncoding('utf8').on('data', (text) => (this.text += text));
  }

  /** Waits until it has printed this since it was last waited for. @param {string | RegExp} wanted @param {number} [timeout] */
  async says(wanted, timeout = 30_000) {
    await expect(() => expect(this.text).toMatch(wanted)).toPass({ timeout, intervals: [100] });
    const [found = ''] = this.text.match(wanted) ?? [];
    this.text = this.text.slice(this.text.indexOf(found) + found.length);
    return found;
  }
}

test.describe('a stack in a terminal', () => {
  /** @type {Program} */
  let stack;
  let portal = '';
  const opened = `${OUTPUT}/terminal/opened`;

  test.beforeAll(async () => {
    test.setTimeout(STARTED_WITHIN_MS + 30_000);
    const directory = emptied('terminal');
    mkdirSync(`${directory}/bin`);
    // What a desktop has: it opens an address with the browser of one's choice.
    writeFileSync(`${directory}/bin/xdg-open`, `#!/bin/sh\necho "$1" > ${opened}\n`, { mode: 0o755 });
    const up = [STACK, ...arguments_(directory, `${directory}/ready.json`), '--watch'];
    // The shell says afterwards how the stack ended, and how it left the terminal.
    const shell = ['sh', '-c', '"$@"; echo "ended with $?"; stty -a', 'sh', ...up];
    stack = new Program('python3', ['-c', 'import pty, sys; pty.spawn(sys.argv[1:])', ...shell], { ...process.env, PATH: `${directory}/bin:${process.env.PATH}` });
    await stack.says('Functions:', STARTED_WITHIN_MS);
    portal = (await stack.says(/Portal:\s+http:\/\/127\.0\.0\.1:\d+/)).replace(/Portal:\s+/, '');
    await stack.says('Keys:');
  });

  test.afterAll(() => stack.process.kill());

  /** @param {string} key */
  const press = (key) => stack.process.stdin.write(key);

  test('each letter does what the line of keys says, without Enter', async ({ request }) => {
    press('l');
    await stack.says('Every line is shown');
    press('l');
    await stack.says('Routine is left out');
    const rules = async () => (await (await request.get(`${portal}/api/ops/local/bank/v1/script`)).json()).rules.length;
    press('f');
    await stack.says('The bank fails now');
    expect(await rules()).toBe(1);
    press('f');
    await stack.says('The bank works again');
    expect(await rules()).toBe(0);
    press('o');
    await stack.says('Opening the portal');
    expect(readFileSync(opened, 'utf8').trim()).toBe(portal);
    press('?');
    await stack.says(/Keys: .*r rebuild.*q quit/);
  });

  test('a page follows the files of the portal', async ({ page }) => {
    await page.goto(`${portal}/orders`);
    await live(page);
    await page.evaluate(() => Object.assign(window, { isOld: true }));
    // Until the page has seen the version before, a change is none.
    await page.waitForResponse('**/api/ops/local/portal');
    utimesSync(`${REPOSITORY}portal/favicon.svg`, new Date(), new Date());
    await page.waitForFunction(() => !('isOld' in window));
    await live(page);
  });

  test('a source that is written is built and swapped in, and what is in flight is finished', async ({ request }) => {
    test.setTimeout(2 * SWAPPED_WITHIN_MS);
    const order = { customerId: 'c-swap', currency: 'EUR', items: [{ sku: 'vitamin-c', quantity: 1 }], faults: { notification: 'flaky' } };
    /** @type {string[]} */
    const ids = [];
    let swapped = false;
    const submitting = (async () => {
      while (!swapped) {
        const headers = { 'idempotency-key': `swap-${ids.length}` };
        // The API is away while it is swapped itself: asked again under the same key.
        const answer = await request.post(`${portal}/api/orders`, { data: order, headers }).catch(() => undefined);
        if (answer?.status() === 202) ids.push((await answer.json()).orderId);
        await pause(BETWEEN_ORDERS_MS);
      }
    })();
    utimesSync(`${REPOSITORY}functions/main.rs`, new Date(), new Date());
    await stack.says('Building handler', SWAPPED_WITHIN_MS);
    for (const app of ['order-api', 'inventory', 'billing', 'payments', 'notification', 'outbox']) await stack.says(`Swapping ${app}`, SWAPPED_WITHIN_MS);
    swapped = true;
    await submitting;
    expect(ids.length).toBeGreaterThan(5);
    for (const id of ids) {
      await expect(async () => {
        const answer = await (await request.get(`${portal}/api/orders/${id}`)).json();
        expect(answer.overall, JSON.stringify(answer.status)).toBe('completed');
      }).toPass({ timeout: 90_000 });
    }
    const { captured, multiplyCaptured } = await (await request.get(`${portal}/api/ops/local/bank/v1/summary`)).json();
    expect(multiplyCaptured).toEqual([]);
    expect(captured).toBe(ids.length);
    console.log(`  ${ids.length} orders went through while six apps were swapped; the bank was paid ${captured} times`);
  });

  test('r builds and swaps, q ends it and leaves the terminal as it was', async () => {
    test.setTimeout(2 * SWAPPED_WITHIN_MS);
    press('r');
    await stack.says('Building handler', SWAPPED_WITHIN_MS);
    await stack.says('Swapping outbox', SWAPPED_WITHIN_MS);
    press('q');
    await stack.says('ended with 0', 60_000);
    await stack.says(/ icanon/);
    await stack.says(/ echo /);
    expect(await stack.gone).toBe(0);
  });
});

test('lines are followed as they come, in a table and as JSON, until one has enough', async ({ api }) => {
  const url = process.env.PORTAL_URL ?? '';
  const earlier = await api.order();
  await api.until(earlier, ({ overall }) => overall === 'completed');
  const follow = (/** @type {string[]} */ ...more) => new Program(STACK, ['logs', '--follow', '--url', url, '--app', 'order-api', '--text', 'order accepted', ...more]);
  const [table, json] = [follow(), follow('--json')];
  await table.says(earlier);
  const id = await api.order();
  await table.says(new RegExp(`\\d\\d:\\d\\d:\\d\\d\\.\\d{3} {2}order-api +info +order accepted +order=${id}`));
  await json.says(id);
  await expect(() => expect(json.text).toContain('\n')).toPass();
  table.process.kill('SIGINT');
  json.process.kill('SIGINT');
  expect(await table.gone).toBe('SIGINT');
  const { text } = json;
  expect(text + (await json.gone)).toContain('SIGINT');

  const once = new Program(STACK, ['logs', '--url', url, '--order', id, '--json']);
  expect(await once.gone).toBe(0);
  const records = once.text.trim().split('\n').map((line) => JSON.parse(line));
  expect(records.length).toBeGreaterThan(2);
  expect(records.every((record) => record.orderId === id)).toBe(true);
});

test('an order is submitted, watched, shown and listed, and its dead letter as well', async ({ api }) => {
  const run = async (/** @type {string[]} */ ...args) => {
    const program = new Program(STACK, [...args, '--url', process.env.PORTAL_URL ?? '']);
    return { code: await program.gone, text: program.text };
  };
  const submitted = await run('order', 'submit', '--item', 'vitamin-c=2', '--json');
  expect(submitted.code, submitted.text).toBe(0);
  const { orderId } = JSON.parse(submitted.text);
  const watched = await run('order', 'watch', orderId);
  expect(watched.code).toBe(0);
  expect(watched.text).toMatch(/billing.*done[\s\S]*completed/);
  expect((await run('order', 'show', orderId)).text).toMatch(/inventory +done/);
  expect(JSON.parse((await run('order', 'show', orderId, '--json')).text).overall).toBe('completed');
  expect((await run('order', 'list')).text).toContain(orderId);
  const unknown = await run('order', 'show', '00000000-0000-7000-8000-000000000000');
  expect(unknown.code).toBe(1);
  expect(unknown.text).toContain('Failed');

  const dead = await api.deadLetter();
  expect((await run('dlq', 'list', 'billing-sub')).text).toMatch(new RegExp(`${dead}.*MaxDeliveryCountExceeded|MaxDeliveryCountExceeded.*${dead}`));
  const { deadLetters } = JSON.parse((await run('dlq', 'list', 'billing-sub', '--json')).text);
  expect(deadLetters.map((/** @type {any} */ { orderId }) => orderId)).toContain(dead);
});
