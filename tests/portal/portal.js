/**
 * @file What every test has: the portal at its address, a way to ask its API, and, after each test,
 * the look back: no script failed, nothing was refused by the policy, and no request left this
 * machine.
 */

import { test as base, expect } from '@playwright/test';
import { createRequire } from 'node:module';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { OUTPUT } from './stack.js';

export { expect };

/** Every page, with what it is called. */
export const PAGES = [
  ['/', 'Shop'],
  ['/orders', 'Orders'],
  ['/dead-letters', 'Dead letters'],
  ['/system', 'System'],
  ['/lab', 'Lab'],
  ['/logs', 'Logs'],
  ['/contract', 'API'],
];

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export const test = base.extend({
  baseURL: async ({}, use) => use(process.env.PORTAL_URL),
  page: async ({ page }, use) => {
    /** @type {string[]} */
    const wrong = [];
    page.on('pageerror', (error) => wrong.push(`script: ${error.stack}`));
    page.on('console', (message) => /Content Security Policy/.test(message.text()) && wrong.push(message.text()));
    page.on('request', (request) => {
      const { protocol, hostname } = new URL(request.url());
      if (protocol !== 'data:' && hostname !== '127.0.0.1') wrong.push(`left this machine: ${request.url()}`);
    });
    await use(page);
    expect(wrong).toEqual([]);
  },
  api: async ({ request }, use) => use(new Api(request)),
});

/** The API, for what a test has to arrange or to know. */
class Api {
  /** @param {import('@playwright/test').APIRequestContext} request */
  constructor(request) {
    this.request = request;
  }

  /** @param {string} path */
  async get(path) {
    const answer = await this.request.get(path);
    expect(answer.ok(), `${path}: ${answer.status()}`).toBe(true);
    return answer.json();
  }

  /** @param {string} path @param {unknown} [data] */
  async post(path, data = {}) {
    const answer = await this.request.post(path, { data });
    expect(answer.ok(), `${path}: ${answer.status()} ${await answer.text()}`).toBe(true);
    return answer.json();
  }

  /** Submits an order; its id. @param {object} [more] */
  async order(more = {}) {
    const data = { customerId: 'c-test', currency: 'EUR', items: [{ sku: 'vitamin-c', quantity: 1 }], ...more };
    const headers = { 'idempotency-key': randomUUID() };
    let answer;
    // As a careful client: a refusal for the moment is asked again under the same key.
    await expect(async () => {
      answer = await this.request.post('/api/orders', { data, headers });
      expect(answer.status()).toBe(202);
    }).toPass({ timeout: 30_000 });
    return (await answer.json()).orderId;
  }

  /** Waits until an order is as wanted; the order then. @param {string} id @param {(order: any) => boolean} wanted */
  async until(id, wanted) {
    let order;
    await expect(async () => {
      order = await this.get(`/api/orders/${id}`);
      expect(wanted(order), JSON.stringify(order.status)).toBe(true);
    }).toPass({ timeout: 60_000 });
    return order;
  }

  /** An order whose billing is dead-lettered; its id. */
  async deadLetter() {
    const id = await this.order({ faults: { billing: 'fail' } });
    await this.until(id, ({ status }) => status.billing === 'dead-lettered' && status.notification === 'done');
    await expect(async () => {
      const { deadLetters } = await this.get('/api/ops/dead-letters/billing-sub?limit=200');
      expect(deadLetters.map(({ orderId }) => orderId)).toContain(id);
    }).toPass({ timeout: 30_000 });
    return id;
  }
}

/** What axe has to say about the page: nothing. @param {import('@playwright/test').Page} page */
export async function accessible(page) {
  // Half-faded text has half its contrast.
  await page.waitForFunction(() => document.getAnimations().every((animation) => animation.effect?.getTiming().iterations === Infinity || animation.playState === 'finished'));
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (window).axe.run(document, { resultTypes: ['violations'] });
    return violations.map(({ id, help, nodes }) => `${id}: ${help}\n  ${nodes.map(({ html, failureSummary }) => `${html.slice(0, 200)} ${failureSummary}`).join('\n  ')}`);
  });
  expect(violations).toEqual([]);
}

/** @param {import('@playwright/test').Page} page @param {string} name */
export const picture = (page, name) => page.screenshot({ path: `${OUTPUT}/${name}.png` });

/** The live sign. @param {import('@playwright/test').Page} page */
export const live = (page) => expect(page.locator('#link')).toContainText('Live');

/** The last characters of an order id, as the portal shows it. @param {string} id */
export const short = (id) => id.slice(-8);
