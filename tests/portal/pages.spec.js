/** @file Every page: what a screen reader meets, what axe says, at 360 pixels, in the dark, at rest. */

import { PAGES, accessible, expect, live, picture, short, test } from './portal.js';

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
    await expect(page.locator('nav [aria-current=page]')).toBeInViewport({ ratio: 0.9 });
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

test('an order and its dead letter: names for everything, in the dark, and on a phone', async ({ page, api }) => {
  const id = await api.deadLetter();
  for (const [name, path, snapshot] of [
    [
      'order',
      `/order?id=${id}`,
      `
    - heading "Order ${short(id)}" [level=1]
    - list:
      - listitem: /Inventory.*Done/
      - listitem: /Billing.*Dead-lettered/
      - listitem: /Notification.*Done/
    - link "Find billing's dead letter"
    - heading "Where the time went" [level=2]
    - list "Billing":
      - listitem:
        - button /Attempt 3 dead-lettered/
    - heading "History" [level=2]
    - heading "Told to the customer" [level=2]
    - heading "Events" [level=2]
    - heading "Document" [level=2]
    - heading "Logs of this order" [level=2]
  `,
    ],
    [
      'letter',
      `/dead-letters?source=billing-sub&order=${id}`,
      `
    - paragraph:
      - textbox "Why, for the audit trail"
    - paragraph:
      - checkbox "Take the failure away that the order asks for" [checked]
    - button /Replay all/
    - button /Discard all/
    - table "Dead letters, oldest first"
    - region /Dead letter/:
      - heading /Order/ [level=2]
      - heading "Body" [level=3]
  `,
    ],
  ]) {
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.goto(path);
    await live(page);
    await expect(page.locator('main')).toMatchAriaSnapshot(snapshot);
    await accessible(page);
    await picture(page, `${name}-dark`);
    await page.emulateMedia({ colorScheme: 'light' });
    await page.setViewportSize({ width: 360, height: 740 });
    await expect.poll(() => tooWide(page)).toEqual([]);
    await accessible(page);
    await picture(page, `${name}-360`);
  }
});

test('markup in a message and in what an operator writes is shown as text', async ({ page, api }) => {
  const id = await api.deadLetter();
  const markup = `<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>`;
  const { deadLetters } = await api.get('/api/ops/dead-letters/billing-sub?limit=200');
  const { sequenceNumber } = deadLetters.find(({ orderId }) => orderId === id);
  const { body } = await api.get(`/api/ops/dead-letters/billing-sub/${sequenceNumber}`);
  await api.post('/api/ops/dead-letters/billing-sub/replay', { select: { sequenceNumbers: [sequenceNumber] }, reason: markup, body: { ...body, data: { ...body.data, note: markup } } });
  await expect(async () => {
    const again = await api.get('/api/ops/dead-letters/billing-sub?limit=200');
    expect(again.deadLetters.map(({ orderId }) => orderId)).toContain(id);
  }).toPass({ timeout: 60_000 });
  await page.goto(`/dead-letters?source=billing-sub&order=${id}`);
  await expect(page.getByRole('region', { name: /^Dead letter / }).locator('pre').first()).toContainText('<img src=x onerror=');
  await expect(page.locator('main')).toContainText(`replayed: ${markup}`);
  await expect(page.locator('main img, main script')).toHaveCount(0);
  await page.goto(`/orders?text=${encodeURIComponent(markup)}`);
  await expect(page.getByRole('searchbox')).toHaveValue(markup);
  await expect(page.getByText('No order fits.')).toBeVisible();
  await expect(page).toHaveTitle('Orders · Bulkhead');
});

test('every type of problem leads to its explanation', async ({ page, request }) => {
  const refused = await request.get('/api/orders?limit=0');
  const { type } = await refused.json();
  expect(type).toBe('/problems/invalid-query');
  const answer = await request.get(new URL(type, refused.url()).href);
  expect(answer.status()).toBe(200);
  expect(answer.headers()['content-type']).toContain('text/html');
  expect((await request.get('/problems/none-of-ours')).status()).toBe(404);
  await page.goto(type);
  const asked = page.getByRole('region', { name: 'The problem asked about' });
  await expect(asked).toContainText('400');
  await expect(asked).toContainText('A query parameter is not valid.');
  await expect(asked).toContainText('GET /api/orders');
  await expect(page.getByRole('link', { name: 'API', exact: true })).toHaveAttribute('aria-current', 'page');
  await accessible(page);
  await page.getByRole('link', { name: '/problems/order-closed' }).click();
  await expect(asked).toContainText('409');
  await page.getByRole('link', { name: 'All of the contract' }).click();
  await expect(page).toHaveURL(/\/contract$/);
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
  await page.goto('/logs?text=order%20accepted');
  await page.getByRole('list', { name: 'Log lines' }).getByRole('link', { name: short(id) }).click();
  await expect(page).toHaveURL(`/logs?order=${id}`);
  await expect(page.getByLabel('Order id')).toHaveValue(id);
  await page.goto('/logs');
  await expect(page.locator('.log [data-level=info]').first()).toBeVisible();
  await page.getByLabel('Level').selectOption('warn');
  await expect(page).toHaveURL(/level=warn/);
  await expect(page.locator('.log [data-level=info]')).toHaveCount(0);
});
