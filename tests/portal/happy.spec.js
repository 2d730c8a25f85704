/** @file The happy path: one press in the shop, and the order is followed to its end. */

import { accessible, expect, live, picture, short, test } from './portal.js';

test('an order is accepted at once and completes while one watches', async ({ page, api }) => {
  await page.goto('/');
  await live(page);
  await page.getByRole('button', { name: 'Order one Vitamin C' }).click();
  const answer = page.getByRole('region', { name: 'Answer to the last submit' });
  await expect(answer).toContainText('202 Accepted');
  await expect(answer).toContainText('All three services finished on their own');
  await expect(answer.getByText('As one synchronous chain')).toBeVisible();
  await expect(answer).not.toContainText('going on');
  await picture(page, 'shop');
  await answer.getByRole('link', { name: /^Order / }).click();

  await expect(page.getByRole('heading', { level: 1 })).toContainText('Order');
  const id = new URL(page.url()).searchParams.get('id') ?? '';
  const order = await api.until(id, ({ overall, messages }) => overall === 'completed' && messages.length === 2);
  await expect(page.locator('main')).toContainText(id);
  for (const service of ['Inventory', 'Billing', 'Notification']) await expect(page.getByRole('list', { name: service }).getByRole('button', { name: /^Attempt 1 done/ })).toBeVisible();
  await page.getByRole('list', { name: 'Billing' }).getByRole('button', { name: /Attempt 1 done/ }).click();
  await expect(page.locator('.detail')).toContainText('Attempt 1 done');
  await expect(page.getByText('Order completed')).toBeVisible();
  await expect(page.locator('.document mark').first()).toBeVisible();
  await page.getByText('order.created', { exact: true }).click();
  await expect(page.getByText('"specversion"').first()).toBeVisible();
  await expect(page.getByText('order accepted').first()).toBeVisible();
  await page.getByRole('button', { name: 'Copy as curl' }).click();
  expect(await page.evaluate(() => navigator.clipboard.readText())).toContain(`/api/orders/${id}`);
  expect(order.history.at(-1).what).toBe('completed');
  await accessible(page);

  await page.goto('/orders');
  const row = page.getByRole('row', { name: short(id) });
  await expect(row).toContainText('Completed');
});

test('a refused order says so beside the field, and markup stays text', async ({ page }) => {
  await page.goto('/');
  await expect(page.getByRole('button', { name: 'Order one Vitamin C' })).toBeVisible();
  await page.getByLabel('Customer').fill('<img src=x onerror=alert(1)>');
  await page.getByRole('button', { name: 'Submit order' }).click();
  await expect(page.getByLabel('Customer')).toHaveAttribute('aria-invalid', 'true');
  await expect(page.getByLabel('Customer')).toBeFocused();
  await expect(page.locator('#customer-error')).not.toBeEmpty();
  await expect(page.locator('main img')).toHaveCount(0);
  await page.getByText('Show the request').click();
  await expect(page.getByRole('group', { name: 'Request body' })).toContainText('<img src=x');
  await page.getByLabel('Customer').fill('c-demo');
  await page.getByLabel('Vitamin C 500 mg, 90 tablets, quantity').fill('10001');
  await page.getByRole('button', { name: 'Submit order' }).click();
  await expect(page.getByRole('alert')).toContainText('422');
  await expect(page.getByLabel('Vitamin C 500 mg, 90 tablets, quantity')).toHaveAttribute('aria-invalid', 'true');
});
