/** @file An order is taken back, and nothing is taken back by one slip. */

import { accessible, expect, live, test } from './portal.js';

test('an order is cancelled after a question, and undone', async ({ page, api }) => {
  // Billing stands still, so that nobody sets out to charge before the question is answered.
  await api.post('/api/ops/local/processes/billing/pause', { seconds: 60 });
  try {
    const id = await api.order();
    await page.goto(`/order?id=${id}`);
    await live(page);
    const dialog = page.getByRole('dialog', { name: /^Cancel order/ });
    await page.getByRole('button', { name: 'Cancel order' }).click();
    await accessible(page);
    await page.keyboard.press('Escape');
    await expect(dialog).toBeHidden();
    expect((await api.get(`/api/orders/${id}`)).cancellation).toBeUndefined();
    await page.getByRole('button', { name: 'Cancel order' }).click();
    await dialog.getByRole('button', { name: 'Cancel order' }).click();
    await expect(page.getByText('Cancelled: what was done is being undone.')).toBeVisible();
    await api.post('/api/ops/local/processes/billing/resume');
    await expect(page.locator('.head .chip')).toHaveText('Cancelled');
    await expect(page.getByRole('button', { name: 'Cancel order' })).toHaveCount(0);
  } finally {
    await api.post('/api/ops/local/processes/billing/resume');
  }
});
