/** @file A duplicate event changes nothing. */

import { expect, test } from './portal.js';

test('an event that comes twice leaves the order as it was', async ({ page, api }) => {
  const id = await api.order();
  const before = await api.until(id, ({ overall, messages }) => overall === 'completed' && messages.length === 2);
  await page.goto(`/order?id=${id}`);
  await page.getByRole('button', { name: 'Deliver its event twice' }).click();
  await expect(page.getByText('The topic has the event a second time')).toBeVisible();
  await expect(async () => {
    const { subscriptions } = await api.get('/api/ops/system');
    expect(subscriptions.every(({ waiting }) => waiting === 0)).toBe(true);
  }).toPass({ timeout: 30_000 });
  await expect(page.getByText('an event is delivered twice on purpose')).toBeVisible();
  const after = await api.get(`/api/orders/${id}`);
  expect(after.history).toEqual(before.history);
  expect(after.stage.billing.calls).toBe(1);
  expect(after.messages).toEqual(before.messages);
});
