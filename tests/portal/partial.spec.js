/** @file What a page says while a part of the system stands still, and that it takes it back. */

import { accessible, expect, live, picture, short, test } from './portal.js';

/** The longest there is: each is ended as soon as it has been looked at. */
const PAUSE = { seconds: 120 };

/** Pauses a process while something is looked at. @param {any} api @param {string} name @param {() => Promise<void>} look */
async function paused(api, name, look) {
  await api.post(`/api/ops/local/processes/${name}/pause`, PAUSE);
  try {
    await look();
  } finally {
    await api.post(`/api/ops/local/processes/${name}/resume`);
  }
}

test('a store that stands still is said, what was known stays, and it is taken back', async ({ page, api }) => {
  const id = await api.order();
  await api.until(id, ({ overall }) => overall === 'completed');
  await page.goto('/orders');
  await live(page);
  await expect(page.getByRole('row', { name: short(id) })).toBeVisible();
  await paused(api, 'cosmos', async () => {
    await expect(page.locator('#banner')).toContainText('The order store cannot be reached');
    await expect(page.getByRole('row', { name: short(id) })).toBeVisible();
    await accessible(page);
    await picture(page, 'store-paused');
    await page.getByRole('row', { name: short(id) }).click();
    await expect(page.getByRole('alert').filter({ hasText: 'The order cannot be read.' })).toBeVisible();
  });
  await expect(page.getByRole('heading', { name: 'Where the time went' })).toBeVisible();
  await live(page);
  await expect(page.locator('#banner')).toBeEmpty();
  await page.goto('/dead-letters');
  await expect(page.getByText(/developer\s+local\s+processes\/cosmos\/pause\s+done/)).toBeVisible();
});

test('dead letters that cannot be counted are not none', async ({ page, api }) => {
  const id = await api.deadLetter();
  await page.goto('/dead-letters?source=billing-sub');
  await expect(page.getByRole('button', { name: short(id), exact: true })).toBeVisible();
  await paused(api, 'bus', async () => {
    await expect(page.getByRole('button', { name: /billing-sub cannot be counted now/ })).toBeVisible();
    await expect(page.getByText('inventory-sub, billing-sub, and notification-sub cannot be looked at.')).toBeVisible();
    await expect(page.getByText('No dead letters.')).toBeHidden();
    await accessible(page);
    await picture(page, 'bus-paused');
    await page.goto('/system');
    await expect(page.getByRole('group', { name: 'Map' })).toContainText('Paused');
    await expect(page.getByRole('row').filter({ hasText: /^bus/ })).toContainText('Paused');
    await page.goto('/dead-letters');
    await expect(page.getByText('cannot be looked at.')).toBeVisible();
  });
  await expect(page.getByRole('button', { name: short(id), exact: true })).toBeVisible();
  await expect(page.getByText('cannot be looked at.')).toHaveCount(0);
});
