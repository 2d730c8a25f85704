/**
 * @file What the last submit got for its trouble: the measured answer, and beside it the work that
 * nobody had to wait for.
 */

import { bar, fill, h, icon } from './dom.js';
import { duration, isMoving, overallOf, shortId, verdict, workMs } from './words.js';

/** @typedef {import('./api.js').Order} Order */
/** @typedef {{ orderId: string, tookMs: number }} Receipt */

export class OrderReceipt extends HTMLElement {
  /** @type {Receipt | undefined} */
  #receipt;
  /** @type {Order | undefined} */
  #order;
  #drawn = '';

  /** @param {Receipt} receipt */
  set receipt(receipt) {
    this.#receipt = receipt;
    this.#order = undefined;
    this.#draw();
    this.scrollIntoView({ block: 'nearest' });
  }

  /** The order behind the receipt, whenever it changes. @param {Order} order */
  set order(order) {
    if (order.orderId !== this.#receipt?.orderId || order === this.#order) return;
    this.#order = order;
    this.#draw();
  }

  #draw() {
    const receipt = this.#receipt;
    if (!receipt) return;
    const { orderId, tookMs } = receipt;
    const order = this.#order;
    const work = order && workMs(order);
    const sentence = order ? verdict(order) : 'Committed. The services have not been heard of yet.';
    const end = order && !isMoving(order) ? overallOf(order) : undefined;
    const look = JSON.stringify([receipt, work, sentence, end?.word]);
    if (look === this.#drawn) return;
    this.#drawn = look;

    const longest = Math.max(tookMs, work ?? 0);
    fill(
      this,
      h(
        'section',
        { class: 'panel receipt', 'aria-label': 'Answer to the last submit' },
        h(
          'div',
          { class: 'receipt-answer' },
          h('p', { class: 'hero' }, ...figure(duration(tookMs))),
          h('p', { class: 'hero-caption' }, h('strong', {}, '202 Accepted'), ' order ', h('code', { title: orderId }, shortId(orderId))),
        ),
        h(
          'dl',
          { class: 'compare' },
          h('dt', {}, 'You waited'),
          h('dd', {}, bar({ share: work === undefined ? 0 : tookMs / longest, tone: 'busy' }), h('span', {}, duration(tookMs))),
          h('dt', {}, 'The work took'),
          work === undefined
            ? h('dd', {}, h('span', { class: end ? 'bar' : 'bar moving' }), h('span', {}, end ? 'not told' : 'going on'))
            : h('dd', {}, bar({ share: work / longest, tone: end?.tone ?? 'busy' }), h('span', {}, duration(work))),
        ),
        h('p', { class: 'verdict', 'data-tone': end?.tone ?? 'busy' }, icon(end?.icon ?? 'processing'), sentence),
      ),
    );
  }
}

/** Splits `12 ms` so that the unit can be set smaller. @param {string} text */
function figure(text) {
  const [value = '', ...unit] = text.split(' ');
  return [value, h('small', {}, ` ${unit.join(' ')}`)];
}

customElements.define('order-receipt', OrderReceipt);
