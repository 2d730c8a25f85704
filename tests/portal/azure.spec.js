/**
 * @file The portal where no local stack is behind it, as in Azure: what only a stack knows is
 * hidden, nothing is asked that is not there, and a stream that ends in time is taken up again.
 */

import { PAGES, accessible, expect, live, picture, short, test as base } from './portal.js';
import { STARTED_WITHIN_MS, launch } from './stack.js';

/** Seconds of one stream: short, so that a test sees several. */
const SESSION_SECONDS = 3;

const test = base.extend({
  stack: [
    async ({}, use) => {
      const stack = await launch('azure', ['--no-faults', '--set', 'STACK_URL=', '--set', `FEED_SESSION_SECONDS=${SESSION_SECONDS}`]);
      await use(stack);
      await stack.stop();
    },
    { scope: 'worker', timeout: STARTED_WITHIN_MS + 30_000 },
  ],
  baseURL: async ({ stack }, use) => use(stack.endpoints.http),
});

test('no page asks for what is not there, and each is whole without it', async ({ page, api }) => {
  const id = await api.order();
  await api.until(id, ({ overall }) => overall === 'completed');
  /** @type {string[]} */
  const refused = [];
  page.on('response', (answer) => answer.status() >= 400 && refused.push(`${answer.status()} ${answer.url()}`));
  page.on('request', (request) => request.url().includes('/api/ops/local') && refused.push(request.url()));
  for (const [path, title] of [...PAGES, [`/order?id=${id}`, 'Order']]) {
    await page.goto(path);
    await live(page);
    await expect(page.getByRole('heading', { level: 1 })).toContainText(title);
    await expect(page.locator('.loading')).toHaveCount(0);
    await expect(page.getByRole('alert')).toHaveCount(0);
    await accessible(page);
    await picture(page, `azure-${title.toLowerCase().replace(' ', '-')}`);
  }
  expect(refused).toEqual([]);
});

test('the parts that need a stack are hidden, and the others are there', async ({ page, api }) => {
  await page.goto('/system');
  await expect(page.getByRole('group', { name: 'Map' })).toContainText('billing-sub');
  await expect(page.getByRole('heading', { name: 'Processes' })).toBeHidden();
  await expect(page.getByRole('button', { name: /^Kill/ })).toHaveCount(0);

  await page.goto('/lab');
  await expect(page.getByRole('button', { name: 'Run: Burst and drain' })).toBeEnabled();
  for (const failing of ['Duplicate delivery', 'Poison and replay']) await expect(page.getByRole('button', { name: `Run: ${failing}` })).toBeDisabled();
  for (const local of ['Subscriber outage', 'Kill a consumer', 'Broker down', 'Store throttled']) await expect(page.getByRole('button', { name: `Run: ${local}` })).toHaveCount(0);
  await expect(page.getByText('4 more experiments')).toBeVisible();

  await page.goto('/logs');
  await expect(page.getByText('The logs are in Application Insights.')).toBeVisible();
  await expect(page.getByLabel('App', { exact: true })).toBeHidden();

  await page.goto('/');
  await expect(page.getByRole('button', { name: 'Order one Vitamin C' })).toBeVisible();
  await expect(page.getByRole('group', { name: 'Make it fail' })).toBeHidden();

  const id = await api.order();
  await page.goto(`/order?id=${id}`);
  await expect(page.getByRole('heading', { name: 'History' })).toBeVisible();
  await expect(page.getByRole('heading', { name: 'Logs of this order' })).toBeHidden();
  await page.getByRole('button', { name: 'Copy as curl' }).click();
  await expect(page.getByRole('heading', { name: 'Document' })).toBeVisible();
  await expect(page.getByRole('button', { name: 'Deliver its event twice' })).toHaveCount(0);
});

test('a stream that has had its time ends politely, and the next goes on where it was', async ({ page, api }) => {
  /** @type {(string | undefined)[]} */
  const resumedAt = [];
  page.on('request', async (request) => {
    if (request.url().includes('/api/feed')) resumedAt.push((await request.allHeaders())['last-event-id']);
  });
  await page.goto('/orders');
  await live(page);
  await page.evaluate(() => {
    const states = Object.assign(window, { states: /** @type {string[]} */ ([]) }).states;
    const sign = /** @type {Element} */ (document.getElementById('link'));
    new MutationObserver(() => states.push(sign.textContent ?? '')).observe(sign, { subtree: true, childList: true });
  });
  while (resumedAt.length < 4) {
    const id = await api.order();
    await expect(page.getByRole('row', { name: short(id) })).toContainText('Completed');
  }
  expect(resumedAt[0]).toBeUndefined();
  expect(resumedAt.slice(1, 4).every((cursor) => Number(cursor) > 1_700_000_000)).toBe(true);
  // Whoever looks on notices nothing.
  expect(await page.evaluate(() => /** @type {any} */ (window).states)).toEqual([]);
});

test('a stack that is stopped is said to be, and what was known stays', async ({ page, api, stack }) => {
  const id = await api.order();
  await page.goto('/orders');
  await live(page);
  await expect(page.getByRole('row', { name: short(id) })).toContainText('Completed');
  await stack.stop();
  await expect(page.locator('#link')).toContainText('Offline');
  await expect(page.getByRole('alert')).toContainText('Start it with ./scripts/up');
  await expect(page.getByRole('row', { name: short(id) })).toBeVisible();
  await page.getByRole('link', { name: 'Shop', exact: true }).click();
  await expect(page.getByText('This page could not be loaded.')).toBeVisible();
  await expect(page.getByRole('link', { name: 'Try again' })).toBeVisible();
  await picture(page, 'stopped');
});
