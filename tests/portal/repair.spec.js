/** @file Break billing and repair it, following only what the screen says. */

import { accessible, expect, live, picture, short, test } from './portal.js';

test('billing fails, its message is found, understood and replayed, and the order completes', async ({ page, api }) => {
  await page.goto('/');
  await live(page);
  await page.getByLabel('Billing').selectOption({ label: 'Fails every time' });
  await expect(page.getByText('Every attempt fails until its message is dead-lettered')).toBeVisible();
  await page.getByRole('button', { name: 'Submit order' }).click();
  const answer = page.getByRole('region', { name: 'Answer to the last submit' });
  await expect(answer).toContainText('Billing is sealed off; inventory and notification carried on and finished.');
  await answer.getByRole('link', { name: /^Order / }).click();
  const id = new URL(page.url()).searchParams.get('id') ?? '';
  await expect(page.getByRole('list', { name: 'Billing' }).getByRole('button', { name: /^Attempt 3 dead-lettered/ })).toBeVisible();
  await picture(page, 'order');
  await accessible(page);

  await page.getByRole('link', { name: "Find billing's dead letter" }).click();
  const letter = page.getByRole('region', { name: /^Dead letter / });
  await expect(letter).toContainText('MaxDeliveryCountExceeded');
  await expect(letter).toContainText(`"subject": "${id}"`);
  await picture(page, 'dead-letters');
  await accessible(page);
  await page.getByRole('button', { name: /^Replay all/ }).click();
  await expect(page.getByLabel('Why, for the audit trail')).toBeFocused();
  await expect(page.getByText('Say why')).toBeVisible();
  await page.getByLabel('Why, for the audit trail').fill('the card gateway is mended');
  await page.getByRole('button', { name: /^Replay all/ }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('Replay 1 dead letter of billing-sub?');
  await accessible(page);
  await dialog.getByRole('button', { name: 'Replay' }).click();
  await expect(page.getByRole('heading', { name: 'Replayed 1 of 1' })).toBeVisible();
  await expect(page.getByText(new RegExp(`developer replay billing-sub .*${short(id)}.* the card gateway is mended`))).toBeVisible();
  await page.getByRole('link', { name: 'Watch it finish' }).click();

  await expect(page.locator('.head .chip')).toHaveText('Completed');
  await expect(page.getByText('All three services finished, billing after a replay.')).toBeVisible();
  await expect(page.getByText('Billing replayed by an operator')).toBeVisible();
  const order = await api.until(id, ({ overall }) => overall === 'completed');
  expect(order.stage.inventory.attempt).toBe(1);
  expect(order.stage.notification.attempt).toBe(1);
});

test('one of several is discarded with a reason, another replayed as edited', async ({ page, api }) => {
  const [kept, edited] = [await api.deadLetter(), await api.deadLetter()];
  await page.goto(`/dead-letters?source=billing-sub`);
  await page.getByRole('group', { name: 'Reasons' }).getByRole('button', { name: /^MaxDeliveryCountExceeded/ }).click();
  await expect(page).toHaveURL(/reason=MaxDeliveryCountExceeded/);
  await page.getByRole('checkbox', { name: `Choose ${short(kept)}` }).check();
  await page.getByLabel('Why, for the audit trail').fill('the customer called');
  await page.getByRole('button', { name: 'Discard 1' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Discard' }).click();
  await expect(page.getByRole('heading', { name: 'Discarded 1 of 1' })).toBeVisible();
  await expect(page.getByRole('checkbox', { name: `Choose ${short(kept)}` })).toHaveCount(0);

  await page.getByRole('button', { name: short(edited), exact: true }).click();
  await page.getByText('Edit and replay').click();
  const body = page.getByRole('textbox', { name: 'Edited event' });
  const text = await body.inputValue();
  await body.fill('{"specversion":');
  await page.getByRole('button', { name: 'Replay as edited' }).click();
  await expect(page.getByText('This is no JSON')).toBeVisible();
  await body.fill(JSON.stringify({ ...JSON.parse(text), type: 'order.cancelled' }));
  await page.getByRole('button', { name: 'Replay as edited' }).click();
  await expect(page.getByRole('alert').filter({ hasText: /4\d\d/ })).toBeVisible();
  await body.fill(text);
  await page.getByRole('button', { name: 'Replay as edited' }).click();
  await expect(page.getByText('Replayed as edited')).toBeVisible();
});

test('all are replayed, also those beyond the page', async ({ page, api }) => {
  const ids = [await api.deadLetter(), await api.deadLetter(), await api.deadLetter()];
  // Pages of two, as if there were hundreds.
  await page.route('**/billing-sub?limit=*', (route) => route.continue({ url: route.request().url().replace(/limit=\d+/, 'limit=2') }));
  await page.goto('/dead-letters?source=billing-sub');
  await expect(page.locator('.letters tbody tr')).toHaveCount(2);
  const { sources } = await api.get('/api/ops/dead-letters');
  const { count } = sources.find((/** @type {any} */ { source }) => source === 'billing-sub');
  await page.getByLabel('Why, for the audit trail').fill('all of them');
  await page.getByRole('button', { name: `Replay all ${count}`, exact: true }).click();
  await page.getByRole('dialog', { name: `Replay ${count} dead letters of billing-sub?` }).getByRole('button', { name: 'Replay' }).click();
  await expect(page.getByRole('heading', { name: `Replayed ${count} of ${count}` })).toBeVisible();
  for (const id of ids) await api.until(id, ({ overall }) => overall === 'completed');
});

test('a body of sixty kilobytes is shown whole, and the page stays in shape', async ({ page, api }) => {
  const id = await api.deadLetter();
  const { deadLetters } = await api.get('/api/ops/dead-letters/billing-sub?limit=200');
  const { sequenceNumber } = deadLetters.find(({ orderId }) => orderId === id);
  const { body } = await api.get(`/api/ops/dead-letters/billing-sub/${sequenceNumber}`);
  body.data.note = `<b>${'x'.repeat(58_000)}</b>`;
  // The failure stays, so that the large message ends where the small one was.
  await api.post('/api/ops/dead-letters/billing-sub/replay', { select: { sequenceNumbers: [sequenceNumber] }, reason: 'made large', body });
  await api.until(id, ({ status, history }) => status.billing === 'dead-lettered' && history.filter(({ what }) => what === 'dead-lettered').length === 2);
  await expect(async () => {
    const again = await api.get('/api/ops/dead-letters/billing-sub?limit=200');
    expect(again.deadLetters.map(({ orderId }) => orderId)).toContain(id);
  }).toPass({ timeout: 30_000 });
  await page.goto(`/dead-letters?source=billing-sub&order=${id}`);
  const letter = page.getByRole('region', { name: /^Dead letter / });
  await expect(letter.locator('pre').first()).toContainText('<b>xxxx');
  await expect(letter.locator('pre b')).toHaveCount(0);
  expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
});
