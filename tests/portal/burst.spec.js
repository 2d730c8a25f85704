/** @file A burst of 200 orders, counted live to its end. */

import { expect, live, picture, test } from './portal.js';

test('two hundred orders are accepted and counted until all are done', async ({ page }) => {
  await page.goto('/');
  await live(page);
  const slider = page.getByRole('slider', { name: 'How many orders' });
  const slide = () =>
    slider.evaluate((input) => {
      /** @type {HTMLInputElement} */ (input).value = String(Math.log10(200));
      input.dispatchEvent(new Event('input', { bubbles: true }));
    });
  await slide();
  const submit = page.getByRole('button', { name: /^Submit/ });
  await expect(submit).toHaveText('Submit 200 orders');
  for (const [key, text] of [['End', 'Submit 1,000 orders'], ['Home', 'Submit order']]) {
    await slider.press(key);
    await expect(submit).toHaveText(text);
  }
  await slide();
  await submit.click();
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
