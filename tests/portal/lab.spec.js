/** @file The experiments, each to its verdict, and the kill switch. */

import { expect, live, picture, test } from './portal.js';

for (const [name, title] of [['duplicate', 'Duplicate delivery'], ['poison', 'Poison and replay'], ['outage', 'Subscriber outage'], ['kill', 'Kill a consumer'], ['broker', 'Broker down'], ['throttle', 'Store throttled'], ['burst', 'Burst and drain']]) {
  test(`experiment: ${title}`, async ({ page }) => {
    await page.goto('/lab');
    await live(page);
    await page.getByRole('button', { name: `Run: ${title}` }).click();
    await expect(page.locator(`[data-verdict=${name}]`)).not.toBeEmpty({ timeout: 120_000 });
    await expect(page.locator(`[data-verdict=${name}]`)).toContainText('Held.');
    console.log(`  ${title}: ${await page.locator(`[data-verdict=${name}]`).innerText()}`);
    await picture(page, `lab-${name}`);
  });
}

test('a switch in the lab reaches what is ordered in the shop', async ({ page, api }) => {
  await page.goto('/lab');
  await page.getByLabel('Notification', { exact: true }).selectOption({ label: 'Fails twice' });
  await expect(page.getByText('Notification: fails twice (100 %)')).toBeVisible();
  await page.getByRole('link', { name: 'Shop', exact: true }).click();
  await expect(page.getByText('Switched on in the lab')).toBeVisible();
  await page.getByRole('button', { name: 'Submit order' }).click();
  const answer = page.getByRole('region', { name: 'Answer to the last submit' });
  await answer.getByRole('link', { name: /^Order / }).click();
  const id = new URL(page.url()).searchParams.get('id') ?? '';
  const order = await api.until(id, ({ overall }) => overall === 'completed');
  expect(order.stage.notification.attempt).toBe(3);
  await expect(page.getByRole('list', { name: 'Notification' }).getByRole('button', { name: /^Back-off/ }).first()).toBeVisible();
});

test('a process that is killed comes back and is counted', async ({ page }) => {
  await page.goto('/system');
  const row = page.getByRole('row').filter({ hasText: 'subscriber' });
  await expect(row).toContainText('Running');
  const before = Number(await row.getByRole('cell').nth(1).innerText());
  await row.getByRole('button', { name: 'Kill subscriber' }).click();
  const dialog = page.getByRole('dialog', { name: 'Kill subscriber?' });
  await dialog.getByRole('button', { name: 'Leave it' }).click();
  await expect(dialog).toBeHidden();
  await expect(row.getByRole('cell').nth(1)).toHaveText(String(before));
  await row.getByRole('button', { name: 'Kill subscriber' }).click();
  await dialog.getByRole('button', { name: 'Kill' }).click();
  await expect(row.getByRole('cell').nth(1)).toHaveText(String(before + 1));
  await expect(row).toContainText('Running');
  await picture(page, 'system');
});
