/** @file A burst of 200 orders, counted live to its end. */

import { expect, live, picture, test } from './portal.js';

test('two hundred orders are accepted and counted until all are done', async ({ page }) => {
  await page.goto('/');
  await live(page);
  await page.getByRole('slider', { name: 'How many orders' }).evaluate((slider) => {
    /** @type {HTMLInputElement} */ (slider).value = String(Math.log10(200));
    slider.dispatchEvent(new Event('input', { bubbles: true }));
  });
  await page.getByRole('button', { name: 'Submit 200 orders' }).click();
  const box = page.getByRole('region', { name: 'Burst of 200' });
  await expect(box).toContainText('200 of 200 accepted', { timeout: 60_000 });
  await expect(box).toContainText('and at rest', { timeout: 120_000 });
  await expect(box.locator('[data-count=completed]')).toHaveText('200');
  await picture(page, 'burst');
  await page.getByRole('link', { name: 'Watch them' }).click();
  await page.getByRole('button', { name: /^Completed/ }).click();
  expect(page.url()).toContain('state=completed');
  await expect(page.locator('h1 .count')).toHaveText(/^2\d\d/);
  await picture(page, 'orders');
});
