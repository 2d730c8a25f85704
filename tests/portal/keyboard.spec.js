/** @file The whole way without a mouse. */

import { expect, live, test } from './portal.js';

test('an order is submitted, found and opened by keys alone', async ({ page }) => {
  await page.goto('/');
  await live(page);
  await page.keyboard.press('Tab');
  await expect(page.getByRole('link', { name: 'Skip to content' })).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.locator('main')).toBeFocused();
  const submit = page.getByRole('button', { name: 'Submit order' });
  await expect(page.getByRole('button', { name: 'Order one Vitamin C' })).toBeVisible();
  for (let presses = 0; presses < 60 && !(await submit.evaluate((button) => button === document.activeElement)); presses += 1) await page.keyboard.press('Tab');
  await expect(submit).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.getByRole('region', { name: 'Answer to the last submit' })).toContainText('finished on their own');

  await page.keyboard.press('2');
  await expect(page.getByRole('heading', { level: 1 })).toContainText('Orders');
  await page.keyboard.press('/');
  await expect(page.getByRole('searchbox')).toBeFocused();
  await page.keyboard.type('c-demo');
  const first = page.locator('.orders tbody:not([aria-hidden]) a').first();
  await expect(first).toBeVisible();
  for (let presses = 0; presses < 20 && !(await first.evaluate((link) => link === document.activeElement)); presses += 1) await page.keyboard.press('Tab');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowUp');
  await expect(first).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page).toHaveURL(/\/order\?id=/);
  await page.keyboard.press('?');
  await expect(page.getByRole('dialog', { name: 'Keys' })).toBeVisible();
  await page.keyboard.press('Escape');
  await expect(page.getByRole('dialog', { name: 'Keys' })).toBeHidden();
  for (const [key, title] of [['3', 'Dead letters'], ['4', 'System'], ['5', 'Lab'], ['6', 'Logs'], ['7', 'API'], ['1', 'Shop']]) {
    await page.keyboard.press(key);
    await expect(page.getByRole('heading', { level: 1 })).toHaveText(title);
  }
});
