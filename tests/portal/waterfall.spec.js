/** @file How time is drawn: in proportion, but for a wait for an operator that would hide all the rest. */

import { expect, test } from './portal.js';

/** Where moments lie, in percent, and what is drawn short. @param {import('@playwright/test').Page} page @param {number} end @param {[number, number, string][]} stretches @param {number[]} moments */
const drawn = (page, end, stretches, moments) =>
  page.evaluate(
    async ({ end, stretches, moments }) => {
      // @ts-ignore: a path of the server, not of this folder.
      const { scale } = await import('/waterfall.js');
      const { place, shortened } = scale(0, end, stretches.map(([from, to, tone]) => ({ from, to, tone, word: '', note: '' })));
      return { places: moments.map((at) => Math.round(place(at))), shortened };
    },
    { end, stretches, moments },
  );

test('a long wait for an operator leaves the attempts in sight, and other waits are as long as they are', async ({ page }) => {
  await page.goto('/orders');
  const failed = /** @type {[number, number, string][]} */ ([[0, 10, 'busy'], [50, 900, 'bad'], [60, 700, 'good']]);
  expect(await drawn(page, 1_200, [...failed, [900, 1_200, 'stuck']], [0, 900, 1_200])).toEqual({ places: [0, 75, 100], shortened: 0 });
  expect(await drawn(page, 90_900, [...failed, [900, 90_900, 'stuck']], [0, 900, 90_900])).toEqual({ places: [0, 67, 100], shortened: 90_000 });
  // After a replay: what comes behind the wait is in sight as well.
  expect(await drawn(page, 91_800, [...failed, [900, 90_900, 'stuck'], [90_900, 91_800, 'good']], [0, 900, 90_900, 91_800])).toEqual({ places: [0, 33, 67, 100], shortened: 90_000 });
  // A wait in the bus is what one wants to see.
  expect(await drawn(page, 20_000, [[0, 10, 'busy'], [10, 19_000, 'wait'], [19_000, 20_000, 'good']], [10, 19_000])).toEqual({ places: [0, 95], shortened: 0 });
  // Two services that wait: only while nobody works is it drawn short.
  expect(await drawn(page, 10_000, [[0, 100, 'bad'], [100, 10_000, 'stuck'], [0, 4_000, 'good']], [0, 4_000, 10_000])).toEqual({ places: [0, 67, 100], shortened: 6_000 });
});
