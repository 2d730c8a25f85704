/**
 * @file The picture of an order: three compartments, one per service, with bulkheads between them.
 * A failed compartment is sealed; what happens in the others is their own affair.
 */

import { attribute, fill, h, icon, say } from './dom.js';
import { SERVICES, capital, stateOf } from './words.js';

/** @typedef {import('./api.js').Order} Order */

export class OrderHull extends HTMLElement {
  /** @type {Map<string, { room: HTMLLIElement, state: HTMLElement, attempt: HTMLElement }>} */
  #rooms = new Map();

  /** @param {Order} order */
  set order(order) {
    if (this.#rooms.size === 0) this.#build();
    for (const service of SERVICES) {
      const parts = this.#rooms.get(service);
      if (!parts) continue;
      const raw = order.status[service] ?? 'unknown';
      const { word, icon: picture, tone } = stateOf(order, service);
      const attempt = order.stage?.[service]?.attempt ?? 0;
      if (parts.room.dataset.status !== raw || parts.state.textContent !== word) {
        fill(parts.state, icon(picture), h('span', {}, word));
        attribute(parts.room, 'data-status', raw);
        attribute(parts.room, 'data-tone', tone);
      }
      say(parts.attempt, attempt > 1 ? `attempt ${attempt}` : '');
    }
  }

  #build() {
    const list = h('ul', { class: 'hull', role: 'list' });
    for (const service of SERVICES) {
      const state = h('span', { class: 'state' });
      const attempt = h('span', { class: 'attempt' });
      const room = h('li', { class: 'room' }, h('span', { class: 'service' }, h('span', {}, capital(service)), ' ', attempt), state);
      this.#rooms.set(service, { room, state, attempt });
      list.append(room);
    }
    fill(this, list);
  }
}

customElements.define('order-hull', OrderHull);
