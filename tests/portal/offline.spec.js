/** @file Offline and back, polling where streams do not get through, and restarts of processes. */

import { expect, live, picture, short, test } from './portal.js';

test('a lost connection is said, and what was known stays on the screen', async ({ page, api, context }) => {
  const id = await api.order();
  await page.goto('/orders');
  await live(page);
  await expect(page.getByRole('row', { name: short(id) })).toBeVisible();
  await context.setOffline(true);
  await expect(page.locator('#link')).toContainText('Offline');
  await expect(page.getByRole('alert')).toContainText('The server cannot be reached');
  await expect(page.getByRole('row', { name: short(id) })).toBeVisible();
  await picture(page, 'offline');
  const meanwhile = await api.order();
  await context.setOffline(false);
  await live(page);
  await expect(page.getByRole('row', { name: short(meanwhile) })).toBeVisible();
  await expect(page.locator('#banner')).toBeEmpty();
});

test('where streams do not get through, the page polls and says so', async ({ page, api }) => {
  await page.route('**/api/feed*', (route) => (route.request().headers().accept?.includes('text/event-stream') ? route.abort() : route.continue()));
  await page.goto('/orders');
  await expect(page.locator('#link')).toContainText('Polling');
  const id = await api.order();
  await expect(page.getByRole('row', { name: short(id) })).toContainText('Completed');
  await page.unroute('**/api/feed*');
  await page.getByRole('button', { name: 'Go live' }).click();
  await live(page);
});

test('the page goes on when the API dies and comes back', async ({ page, api }) => {
  await page.goto('/orders');
  await live(page);
  await api.post('/api/ops/local/processes/order-api/kill', { what: 'handler' });
  await live(page);
  await expect(async () => {
    const id = await api.order();
    await expect(page.getByRole('row', { name: short(id) })).toContainText('Completed', { timeout: 10_000 });
  }).toPass({ timeout: 60_000 });
  await live(page);
});

test('the page goes on whichever process dies and comes back', async ({ page, api }) => {
  await page.goto('/orders');
  await live(page);
  const restarts = async () => {
    const { processes } = await api.get('/api/ops/local/processes');
    return new Map(processes.map(({ name, restarts, state }) => [name, state === 'running' ? restarts : -1]));
  };
  const before = await restarts();
  expect(before.size).toBeGreaterThanOrEqual(12);
  // What the feed hangs on, one by one; then all the others at once. The API passes the kill on, so
  // it goes first: its own answer is on the way before it dies.
  const others = [...before.keys()].filter((name) => !['order-api', 'cosmos', 'bus'].includes(name));
  for (const names of [['order-api'], ['cosmos'], ['bus'], others]) {
    for (const name of names) await api.post(`/api/ops/local/processes/${name}/kill`);
    await expect(async () => {
      const now = await restarts();
      for (const name of names) expect(now.get(name), name).toBe((before.get(name) ?? 0) + 1);
    }).toPass({ timeout: 60_000 });
    const id = await api.order();
    await expect(page.getByRole('row', { name: short(id) }), `after ${names}`).toContainText('Completed', { timeout: 60_000 });
    await live(page);
    await expect(page.locator('#banner')).toBeEmpty();
  }
});

test('a page that was away for too long reads the list anew', async ({ page, api }) => {
  await page.goto('/orders');
  await live(page);
  await page.getByRole('button', { name: 'Pause updates' }).click();
  await expect(page.locator('#link')).toContainText('Paused');
  const missed = await api.order();
  await api.until(missed, ({ overall }) => overall === 'completed');
  await expect(page.getByRole('row', { name: short(missed) })).toHaveCount(0);
  // As if the pause had lasted for years: the server follows no cursor from then.
  await page.route('**/api/feed?after=*', (route) => route.continue({ url: route.request().url().replace(/after=\d+/, 'after=1000') }));
  const list = page.waitForRequest(/\/api\/orders\?limit=/);
  await page.getByRole('button', { name: 'Resume updates' }).click();
  await list;
  await live(page);
  await expect(page.getByRole('row', { name: short(missed) })).toContainText('Completed');
});

test('an unknown order and an ended sign-in have their answers', async ({ page, context }) => {
  await page.goto('/order?id=00000000-0000-7000-8000-000000000000');
  await expect(page.getByText('There is no such order.')).toBeVisible();
  await expect(page.getByRole('link', { name: 'All orders' })).toBeVisible();
  await page.goto('/order?id=%3Cb%3Enonsense');
  await expect(page.getByText('<b>nonsense is not known here')).toBeVisible();
  await context.setExtraHTTPHeaders({ 'x-development-principal': '' });
  await page.goto('/orders');
  await expect(page.getByRole('alert').first()).toContainText('401');
  await expect(page.getByRole('link', { name: 'Reload to sign in again' }).first()).toBeVisible();
});
