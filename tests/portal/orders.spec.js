/** @file The table of orders: filters in the address, rows in order and the focus in its place while orders arrive. */

import { randomUUID } from 'node:crypto';
import { expect, live, short, test } from './portal.js';
import { put } from './store.js';

/** Orders that come at once: more than one screen and its surroundings hold. */
const MANY = 60;

/** A completed order as the store has it, to be copied. @param {any} api */
async function completed(api) {
  const id = await api.order();
  await api.until(id, ({ overall }) => overall === 'completed');
  const { document } = await api.get(`/api/ops/orders/${id}`);
  return Object.fromEntries(Object.entries(document).filter(([name]) => !name.startsWith('_')));
}

/** Puts a copy of a document into the store; its id. @param {any} document @param {object} [changes] */
async function copy(document, changes = {}) {
  const orderId = randomUUID();
  const createdAt = `${new Date().toISOString().slice(0, -1)}000Z`;
  await put({ ...document, id: orderId, orderId, createdAt, sortKey: `${createdAt}~${orderId}`, ...changes });
  return orderId;
}

test('a view of the orders is in the address, and comes back from it', async ({ page, api }) => {
  const document = await completed(api);
  const customerId = `c-view-${randomUUID().slice(0, 8)}`;
  const [done, waiting] = [await copy(document, { customerId }), await copy(document, { customerId, overall: 'accepted', status: { ...document.status, billing: 'dead-lettered' } })];
  await page.goto('/orders');
  await live(page);
  await page.getByRole('searchbox').fill(customerId);
  await expect(page.getByRole('row', { name: short(done) })).toBeVisible();
  await page.getByRole('group', { name: 'State' }).getByRole('button', { name: 'Needs attention 1' }).click();
  await expect(page.getByRole('row', { name: short(done) })).toHaveCount(0);
  await expect(page.getByRole('row', { name: short(waiting) })).toContainText('Needs attention');
  await expect(page).toHaveURL(new RegExp(`text=${customerId}&state=attention`));
  await page.reload();
  await expect(page.getByRole('row', { name: short(waiting) })).toBeVisible();
  await expect(page.getByRole('row', { name: short(done) })).toHaveCount(0);
  await expect(page.getByRole('searchbox')).toHaveValue(customerId);
  await expect(page.getByRole('button', { name: 'Needs attention 1' })).toHaveAttribute('aria-pressed', 'true');
  await page.getByRole('row', { name: short(waiting) }).click();
  await expect(page).toHaveURL(`/order?id=${waiting}`);
  await page.goBack();
  await expect(page.getByRole('row', { name: short(waiting) })).toBeVisible();
  await expect(page.getByRole('row', { name: short(done) })).toHaveCount(0);
});

test('who has the focus on an order keeps it while others come, and rows are always in order', async ({ page, api }) => {
  const document = await completed(api);
  const mine = await copy(document);
  await page.goto('/orders');
  await live(page);
  const link = page.locator(`[data-key="${mine}"] a`);
  await link.focus();
  await page.evaluate(() => {
    const wrong = Object.assign(window, { wrong: /** @type {string[]} */ ([]) }).wrong;
    const table = /** @type {Element} */ (document.querySelector('.orders'));
    new MutationObserver(() => {
      const lines = [...table.querySelectorAll('tr[aria-rowindex]')].map((row) => Number(row.getAttribute('aria-rowindex')));
      if (lines.some((line, at) => at > 0 && line <= Number(lines[at - 1]))) wrong.push(lines.join(' '));
    }).observe(table, { subtree: true, childList: true });
  });
  const others = [];
  for (let n = 0; n < MANY; n += 1) others.push(await copy(document));
  const newest = others.at(-1) ?? '';
  await expect(page.locator(`[data-key="${newest}"]`)).toHaveAttribute('aria-rowindex', '2');
  await expect(link).toBeFocused();
  await expect(page.locator(`[data-key="${mine}"]`)).toHaveAttribute('aria-rowindex', String(MANY + 2));
  expect(await page.evaluate(() => /** @type {any} */ (window).wrong)).toEqual([]);
  // Far below what is in sight, the key leads back to it, and then on from there.
  const next = page.locator(`[data-key="${others[0]}"] a`);
  await expect(async () => {
    await page.keyboard.press('ArrowUp');
    await expect(next).toBeFocused({ timeout: 500 });
  }).toPass();
  await expect(next).toBeInViewport();
});

test('an order that leaves the filter hands its focus to the one in its place', async ({ page, api }) => {
  const document = await completed(api);
  const customerId = `c-focus-${randomUUID().slice(0, 8)}`;
  const [below] = [await copy(document, { customerId, overall: 'failed' }), await copy(document, { customerId, overall: 'completed' })];
  const leaving = await copy(document, { customerId, overall: 'completed' });
  await page.goto(`/orders?text=${customerId}`);
  await live(page);
  await page.locator(`[data-key="${leaving}"] a`).focus();
  // The next change draws the table anew, as the change of that very order would.
  await page.evaluate(() => history.replaceState(null, '', `${location.href}&state=failed`));
  await copy(document);
  await expect(page.locator(`[data-key="${below}"] a`)).toBeFocused();
  await expect(page.locator('.orders tr[aria-rowindex="2"]')).toHaveCount(1);
});

test('what is told is what changed, and not what was there', async ({ page, api }) => {
  const document = await completed(api);
  for (let n = 0; n < 3; n += 1) await copy(document);
  await page.goto('/orders');
  await page.evaluate(() => {
    const told = Object.assign(window, { told: /** @type {string[]} */ ([]) }).told;
    const announcer = /** @type {Element} */ (document.getElementById('announcer'));
    new MutationObserver(() => told.push(announcer.textContent ?? '')).observe(announcer, { childList: true, characterData: true, subtree: true });
  });
  await live(page);
  const id = await api.order();
  await expect.poll(() => page.evaluate(() => /** @type {any} */ (window).told.join(' '))).toContain(`Order ${short(id)}: Completed.`);
  expect(await page.evaluate(() => /** @type {any} */ (window).told.filter((/** @type {string} */ text) => !text.startsWith('Order ')))).toEqual([]);
});
