/** @file Every page: what a screen reader meets, what axe says, at 360 pixels, in the dark, at rest. */

import { PAGES, accessible, expect, live, picture, test } from './portal.js';

/** Something that stands on the page once it has been filled. @type {Record<string, string>} */
const FILLED = { '/': 'Order one', '/orders': 'Completed', '/dead-letters': 'billing-sub', '/system': 'notification-sub', '/lab': 'Burst and drain', '/logs': 'order accepted', '/contract': '/api/orders/{id}/cancel' };

/** @param {import('@playwright/test').Page} page @param {string} path */
async function open(page, path) {
  await page.goto(path);
  await live(page);
  await expect(page.locator('main').getByText(FILLED[path] ?? '').first()).toBeVisible();
}

test.beforeAll(async ({ playwright }) => {
  const request = await playwright.request.newContext({ baseURL: process.env.PORTAL_URL });
  for (const faults of [{}, { billing: 'fail' }]) await request.post('/api/orders', { data: { customerId: 'c-pages', currency: 'EUR', items: [{ sku: 'vitamin-c', quantity: 1 }], faults } });
  await request.dispose();
});

for (const [path, title] of PAGES) {
  const name = title.toLowerCase().replace(' ', '-');

  test(`${title}: names for everything, in the dark, and on a phone`, async ({ page }) => {
    await page.emulateMedia({ colorScheme: 'light' });
    await open(page, path);
    await expect(page.locator('body')).toMatchAriaSnapshot(`
      - link "Skip to content"
      - banner:
        - link "Bulkhead, to the shop"
        - navigation "Pages":
          - link "Shop"
          - link "Orders"
          - link /Dead letters/
          - link "System"
          - link "Lab"
          - link "Logs"
          - link "API"
        - status: Live
      - main:
        - heading /^${title}/ [level=1]
    `);
    await accessible(page);
    await picture(page, `${name}-light`);

    await page.emulateMedia({ colorScheme: 'dark' });
    await accessible(page);
    await picture(page, `${name}-dark`);

    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 360, height: 740 });
    await expect.poll(() => tooWide(page)).toEqual([]);
    await accessible(page);
    await picture(page, `${name}-360`);
  });
}

/** What sticks out on the right, but for what scrolls by itself. @param {import('@playwright/test').Page} page */
const tooWide = (page) =>
  page.evaluate(() => {
    const scrolls = 'nav, pre, .wide, .log, .unseen, .map';
    const out = [...document.querySelectorAll('body *')].filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(scrolls));
    return [...out.map((element) => element.outerHTML.slice(0, 120)), ...(document.documentElement.scrollWidth > innerWidth ? ['the page scrolls sideways'] : [])];
  });

test('what is on each page has its name and place', async ({ page }) => {
  await open(page, '/');
  await expect(page.locator('main')).toMatchAriaSnapshot(`
    - region "Vitamin C 500 mg, 90 tablets":
      - heading "Vitamin C 500 mg, 90 tablets" [level=2]
      - button /less/
      - spinbutton /quantity/
      - button /more/
      - button /Order one/
  `);
  await open(page, '/orders');
  await expect(page.locator('main')).toMatchAriaSnapshot(`
    - searchbox "Search customer or order id"
    - group "State":
      - button /All/ [pressed]
      - button /Under way/
      - button /Needs attention/
      - button /Completed/
  `);
  await expect(page.getByRole('table')).toMatchAriaSnapshot(`
    - table "Orders, newest first":
      - rowgroup:
        - row "Order Age Customer Total Inventory Billing Notification State"
      - rowgroup:
        - row
  `);
  await open(page, '/dead-letters');
  await expect(page.locator('main')).toMatchAriaSnapshot(`
    - group "Sources":
      - button /inventory-sub/
      - button /billing-sub/ [pressed]
      - button /notification-sub/
      - button /payments-poison/
  `);
  await open(page, '/system');
  await expect(page.locator('main')).toMatchAriaSnapshot(`
    - group "Map"
    - figure
    - heading "Processes" [level=2]
    - region "Processes":
      - table
  `);
  await open(page, '/lab');
  await expect(page.locator('main')).toMatchAriaSnapshot(`
    - heading "Failures" [level=2]
    - paragraph:
      - combobox "Billing"
    - heading "Experiments" [level=2]
    - heading "Duplicate delivery" [level=3]
    - 'button "Run: Duplicate delivery"'
  `);
  await open(page, '/logs');
  await expect(page.locator('main')).toMatchAriaSnapshot(`
    - searchbox "Text"
    - combobox "App"
    - combobox "Level"
    - textbox "Order id"
    - list "Log lines, newest first":
      - listitem
  `);
});

test('nothing moves for whoever asked for that', async ({ page }) => {
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await page.goto('/orders');
  expect(await page.evaluate(() => document.getAnimations().length)).toBe(0);
});

test('an operation is tried, and a log line leads to its order', async ({ page, api }) => {
  await open(page, '/contract');
  await page.getByText('Submit an order').click();
  await page.getByRole('button', { name: 'Send' }).click();
  await expect(page.getByText('202', { exact: true })).toBeVisible();
  await expect(page.getByText('/problems/invalid-order').first()).toBeVisible();
  const id = await api.order();
  await page.goto(`/logs?order=${id}`);
  await expect(page.getByRole('list', { name: 'Log lines' }).getByText('order accepted')).toBeVisible();
  await page.getByLabel('App').selectOption('billing');
  await expect(page).toHaveURL(/app=billing/);
  await expect(page.getByRole('list', { name: 'Log lines' }).getByText('order accepted')).toHaveCount(0);
});
