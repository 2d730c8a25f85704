/**
 * @file The picture of an order: three compartments, one per service, with bulkheads between them.
 * A failed compartment is sealed; what happens in the others is their own affair.
 */

import { attribute, fillIf, h, icon } from './dom.js';
import { SERVICES, capital, stateOf } from './words.js';

/** @typedef {import('./api.js').Order} Order */

export class OrderHull extends HTMLElement {
  /** @param {Order} order */
  set order(order) {
    if (!this.firstChild) this.append(h('ul', { class: 'hull', role: 'list' }, ...SERVICES.map(() => h('li', { class: 'room' }))));
    SERVICES.forEach((service, at) => {
      const room = /** @type {Element} */ (this.firstElementChild?.children[at]);
      const { word, icon: picture, tone } = stateOf(order, service);
      const attempt = order.stage?.[service]?.attempt ?? 0;
      attribute(room, 'data-status', order.status[service]);
      attribute(room, 'data-tone', tone);
      fillIf(room, [word, attempt], () => [
        h('span', { class: 'service' }, capital(service), attempt > 1 && ` · attempt ${attempt}`),
        ' ',
        h('span', { class: 'state' }, icon(picture), h('span', {}, word)),
      ]);
    });
  }
}

customElements.define('order-hull', OrderHull);
