/** @file A line over time, with its last value in words for whoever cannot see it. */

import { fillIf, h, svg } from './dom.js';

/**
 * @param {Element} parent
 * @param {string} title
 * @param {number[][]} series one or more, as long as each other, oldest first
 * @param {(value: number) => string} format
 * @param {string[]} names of the series
 */
export function chart(parent, title, series, format, names) {
  fillIf(parent, [title, series], () => {
    const most = Math.max(1e-9, ...series.flat());
    const line = (/** @type {number[]} */ values, /** @type {number} */ at) => svg('polyline', { class: `line line-${at}`, points: values.map((value, x) => `${(100 * x) / Math.max(1, values.length - 1)},${38 - (36 * value) / most}`).join(' ') });
    return [
      h('h2', {}, title),
      h('p', { class: 'figure' }, ...names.map((name, at) => h('span', { class: `key key-${at}` }, `${format(series[at]?.at(-1) ?? 0)} ${name} `))),
      svg('svg', { viewBox: '0 0 100 40', preserveAspectRatio: 'none', 'aria-hidden': 'true', class: 'chart' }, ...series.map(line)),
      h('p', { class: 'hint figure' }, most < 1e-6 ? 'nothing in two minutes' : `most ${format(most)} in two minutes`),
    ];
  });
}
