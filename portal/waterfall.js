/**
 * @file What happened to an order as lanes of time, one per service: waiting in the bus, attempts,
 * back-offs, work. Drawn from the history in the document alone, so it needs no telemetry.
 */

import { fill, h, icon } from './dom.js';
import { SERVICES, capital, duration, exact, happeningOf } from './words.js';

/** @typedef {import('./api.js').Order} Order */
/** @typedef {{ from: number, to: number, tone: string, word: string, note: string, open?: boolean }} Stretch milliseconds since 1970 */

/** What a service waits for after a line of its history. @type {Record<string, string>} */
const WAITS = { '': 'waiting in the bus', 'attempt-failed': 'waiting to be delivered again', 'retry-scheduled': 'back-off', 'dead-lettered': 'waiting for an operator', replayed: 'waiting in the bus' };

/** What the server appends to the note of an attempt whose message comes back later. */
const BACK_OFF = / \(again in (\d+) ms\)$/;

/**
 * @param {Order} order
 * @param {import('./api.js').Service} service
 * @param {number} published when the topic had the event
 * @param {number} now
 * @returns {Stretch[]} oldest first
 */
export function lane(order, service, published, now) {
  const { updatedAt, handedOverAt, leaseUntil = 0, attempt = 0, owner } = order.stage?.[service] ?? {};
  const handed = Date.parse(handedOverAt ?? '');
  /** @type {Stretch[]} */
  const stretches = [];
  let at = published;
  let waits = '';
  const wait = (/** @type {number} */ to, /** @type {boolean} */ open) => {
    const queued = handed > at && handed < to;
    if (queued) stretches.push({ from: at, to: handed, tone: 'wait', word: `${WAITS[waits]}, then handed over`, note: '' });
    const from = queued ? handed : at;
    if (to > from) stretches.push({ from, to, tone: waits === 'dead-lettered' ? 'stuck' : 'wait', word: queued ? 'waiting in the payments queue' : (WAITS[waits] ?? 'waiting'), note: '', open });
    at = to;
  };
  for (const { service: of, what, at: iso, since, attempt: n, note = '' } of order.history ?? []) {
    if (of !== service) continue;
    const end = Date.parse(iso);
    const { word, tone } = happeningOf(what);
    wait(Date.parse(since ?? iso), false);
    if (since) stretches.push({ from: at, to: end, tone, word: `attempt ${n} ${word}`, note: note.replace(BACK_OFF, ', again in $1 ms') });
    at = end;
    waits = what;
  }
  if (order.status[service] === 'processing' && leaseUntil > 0) {
    const began = Date.parse(updatedAt ?? '');
    wait(began, false);
    stretches.push({ from: began, to: now, tone: 'busy', word: `attempt ${attempt} at work`, note: `invocation ${owner}`, open: true });
  } else if (['pending', 'processing', 'dead-lettered'].includes(order.status[service] ?? '')) wait(now, true);
  return stretches;
}

/**
 * Where a moment lies, in percent. The wait for an operator says nothing about the system: when it is
 * longer than all the rest, it is drawn half as long as the rest, so that attempts stay in sight.
 * @param {number} start @param {number} end
 * @param {Stretch[]} stretches
 * @returns {{ place: (at: number) => number, shortened: number }} milliseconds that are drawn short
 */
export function scale(start, end, stretches) {
  const work = stretches.filter(({ tone }) => tone !== 'wait' && tone !== 'stuck').sort((a, b) => a.from - b.from);
  let [from, to, at] = [start, start, start];
  for (const { from: next, to: over } of [...work, { from: end, to: end }]) {
    for (const stuck of stretches.filter(({ tone }) => tone === 'stuck')) {
      const [begins, ends] = [Math.max(at, stuck.from), Math.min(next, stuck.to)];
      if (ends - begins > to - from) [from, to] = [begins, ends];
    }
    at = Math.max(at, over);
  }
  const long = to - from;
  const rest = end - start - long;
  const drawn = long > rest ? rest / 2 : long;
  const place = (/** @type {number} */ moment) => (100 * (moment - start - (1 - drawn / (long || 1)) * Math.min(long, Math.max(0, moment - from)))) / (rest + drawn);
  return { place, shortened: drawn < long ? long : 0 };
}

export class OrderWaterfall extends HTMLElement {
  #detail = h('p', { class: 'detail', role: 'status' });

  /** @param {Order} order @param {number} published */
  draw(order, published) {
    const now = Date.now();
    const start = Date.parse(order.createdAt);
    const lanes = SERVICES.map((service) => /** @type {const} */ ([service, lane(order, service, published, now)]));
    const ends = lanes.flatMap(([, stretches]) => stretches.map(({ to }) => to));
    const end = Math.max(start + 1, published, ...ends, ...(order.history ?? []).map(({ at }) => Date.parse(at)));
    const accepted = { from: start, to: Math.max(start, published), tone: 'busy', word: 'accepted and committed, then published', note: '' };
    const { place, shortened } = scale(start, end, [accepted, ...lanes.flatMap(([, stretches]) => stretches)]);
    const part = (/** @type {Stretch} */ { from, to, tone, word, note, open }) => {
      const took = `${word}, ${duration(to - from)}${open ? ' so far' : ''}`;
      const about = `${capital(took)}${note && `: ${note}`}`;
      const bar = h('button', { type: 'button', class: 'stretch', 'data-tone': tone, 'aria-label': about, title: about, onclick: () => fill(this.#detail, h('strong', {}, capital(took)), ` from +${duration(from - start)}, ${exact(from)}. ${note}`) });
      bar.style.left = `${place(from)}%`;
      bar.style.width = `max(4px, ${place(to) - place(from)}%)`;
      return h('li', {}, bar);
    };
    const row = (/** @type {string} */ name, /** @type {Stretch[]} */ stretches) => h('div', { class: 'lane' }, h('span', {}, name), h('ol', { role: 'list', 'aria-label': name }, ...stretches.map(part)));
    const focused = [...this.querySelectorAll('button')].indexOf(/** @type {any} */ (document.activeElement));
    fill(
      this,
      row('Order', [accepted]),
      ...lanes.map(([service, stretches]) => row(capital(service), stretches)),
      h('p', { class: 'axis figure', 'aria-hidden': 'true' }, h('span', {}, '0'), shortened ? '' : h('span', {}, duration((end - start) / 2)), h('span', {}, duration(end - start))),
      h('p', { class: 'legend' }, ...[['wait', 'waiting'], ['busy', 'at work'], ['good', 'done'], ['bad', 'failed'], ['stuck', 'waiting for an operator']].map(([tone, word]) => h('span', {}, h('i', { 'data-tone': tone }), word)), shortened > 0 && h('span', {}, `The ${duration(shortened)} of waiting for an operator are drawn short.`), h('span', { class: 'muted' }, icon('chevron'), 'choose a bar for what it is')),
      this.#detail,
    );
    this.querySelectorAll('button')[focused]?.focus();
  }
}

customElements.define('order-waterfall', OrderWaterfall);
