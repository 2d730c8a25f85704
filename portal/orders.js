/**
 * @file The live table of orders. Only the rows in sight exist; filters live in the address, so that
 * a view can be shared.
 */

import { attribute, button, chip, empty, fill, fillIf, h, keyed, loading, relativeTime, say, trouble } from './dom.js';
import { ORDERS_MAX, link, listen, loaded, newest, pause, resume } from './feed.js';
import { go, query, setQuery } from './route.js';
import { SERVICES, STATES, capital, money, number, overallOf, shortId, stateOf } from './words.js';

/** @typedef {import('./api.js').Order} Order */

/** Rows made in one frame: the rest follows in the next, so that a quick scroll never stands still. */
const ROWS_PER_FRAME = 12;

/** Rows beyond those in sight, on both sides: a quick scroll and the arrow keys find them there. */
const OVERSCAN = 8;

export class OrdersPage extends HTMLElement {
  /** @type {Order[]} */
  #shown = [];
  /** Filtered by nothing but the text, for the counts. @type {Map<string, number>} */
  #counts = new Map();
  #stop = () => {};
  #frame = 0;
  #rowHeight = 0;
  #search = h('input', { type: 'search', id: 'search', placeholder: 'Customer or order id', 'aria-label': 'Search customer or order id', oninput: () => this.#filter('text', this.#search.value) });
  #chips = h('div', { class: 'filters', role: 'group', 'aria-label': 'State' });
  #pause = h('button', { type: 'button', class: 'quiet', onclick: () => (link.state === 'paused' ? resume() : pause()) });
  #above = h('tbody', { 'aria-hidden': 'true' });
  #rows = h('tbody');
  #below = h('tbody', { 'aria-hidden': 'true' });
  #table = h('table', { class: 'orders' }, h('caption', { class: 'unseen' }, 'Orders, newest first'), h('thead', {}, h('tr', {}, ...['Order', 'Age', 'Customer', 'Total', ...SERVICES.map(capital), 'State'].map((name) => h('th', { scope: 'col' }, name)))), this.#above, this.#rows, this.#below);
  #notice = h('div');
  #count = h('span', { class: 'count', role: 'status' });
  #scroll = () => this.#later();

  connectedCallback() {
    fill(
      this,
      h('div', { class: 'head' }, h('h1', {}, 'Orders ', this.#count), this.#pause),
      h('div', { class: 'toolbar' }, this.#search, this.#chips),
      this.#notice,
      this.#table,
    );
    this.#search.value = query('text');
    this.#rows.addEventListener('keydown', (event) => this.#key(event));
    this.#rows.addEventListener('click', (event) => {
      const target = /** @type {Element} */ (event.target);
      const id = target.closest('tr')?.dataset.key;
      if (id && !target.closest('a') && !getSelection()?.toString()) go(`/order?id=${id}`);
    });
    addEventListener('scroll', this.#scroll, { passive: true });
    addEventListener('resize', this.#scroll);
    this.#stop = listen(() => this.#take());
  }

  disconnectedCallback() {
    this.#stop();
    removeEventListener('scroll', this.#scroll);
    removeEventListener('resize', this.#scroll);
  }

  /** The address changed under the page. */
  refresh() {
    this.#take();
  }

  /** @param {string} name @param {string} value */
  #filter(name, value) {
    setQuery({ [name]: value });
    this.#take();
  }

  #take() {
    const text = query('text').trim().toLowerCase();
    const wanted = query('state');
    const all = text ? newest().filter((order) => order.orderId.includes(text) || order.customerId.toLowerCase().includes(text)) : newest();
    this.#counts = new Map();
    this.#shown = [];
    for (const order of all) {
      const { key } = overallOf(order);
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
      if (!wanted || wanted === key) this.#shown.push(order);
    }
    say(this.#count, loaded ? `${number(this.#shown.length)}${all.length >= ORDERS_MAX ? '+' : ''}` : '');
    const entries = /** @type {[string, string][]} */ ([['', 'All'], ...Object.entries(STATES)]);
    fillIf(this.#chips, [wanted, all.length, [...this.#counts]], () =>
      entries.map(([key, word]) => h('button', { type: 'button', 'aria-pressed': wanted === key, 'data-focus': key, onclick: () => this.#filter('state', key) }, word, h('span', { class: 'figure' }, ` ${number(key ? (this.#counts.get(key) ?? 0) : all.length)}`))),
    );
    const paused = link.state === 'paused';
    fillIf(this.#pause, paused, () => [paused ? 'Resume updates' : 'Pause updates']);
    this.#drawNotice(all.length, text || wanted);
    this.#draw();
  }

  /** @param {number} all @param {string} filtered */
  #drawNotice(all, filtered) {
    attribute(this.#table, 'hidden', this.#shown.length === 0);
    fillIf(this.#notice, [loaded, all, this.#shown.length > 0, filtered, !loaded && link.problem?.title], () => {
      if (this.#shown.length > 0) return [];
      if (!loaded) return [link.problem ? trouble(link.problem, 'The orders cannot be read.') : loading('Reading orders', 6)];
      if (filtered) return [empty('No order fits.', 'The filter is in the address of this page.', button('Show all orders', () => (setQuery({ state: '', text: '' }), (this.#search.value = ''), this.#take()), { class: 'quiet' }))];
      return [empty('No orders yet.', h('p', {}, h('a', { class: 'more', href: '/' }, 'Order something'), ' and it appears here at once.'))];
    });
  }

  #later() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    if (this.#shown.length === 0) return fill(this.#rows);
    if (!this.#rowHeight && this.#rows.firstElementChild) this.#rowHeight = this.#rows.firstElementChild.getBoundingClientRect().height;
    const height = this.#rowHeight || 44;
    const top = -this.#table.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / height) - OVERSCAN);
    const wanted = this.#shown.slice(first, Math.ceil((top + innerHeight) / height) + OVERSCAN);
    const there = new Set([...this.#rows.children].map((row) => row.getAttribute('data-key')));
    let made = 0;
    const rest = wanted.findIndex(({ orderId }) => !there.has(orderId) && (made += 1) > ROWS_PER_FRAME);
    const inSight = rest < 0 ? wanted : wanted.slice(0, rest);
    if (rest >= 0) this.#later();
    const gap = (/** @type {HTMLElement} */ body, /** @type {number} */ rows) => {
      if (!body.firstChild) body.append(h('tr', {}, h('td', { colspan: 8 })));
      /** @type {HTMLElement} */ (body.firstChild).style.height = `${rows * height}px`;
      attribute(body, 'hidden', rows === 0);
    };
    gap(this.#above, first);
    gap(this.#below, this.#shown.length - first - inSight.length);
    attribute(this.#table, 'aria-rowcount', this.#shown.length + 1);
    let index = first + 1;
    keyed(this.#rows, inSight, (order) => order.orderId, row, (element, order) => {
      attribute(element, 'aria-rowindex', (index += 1));
      update(element, order);
    });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const row = /** @type {Element} */ (event.target).closest('tr');
    const next = event.key === 'ArrowDown' || event.key === 'j' ? row?.nextElementSibling : event.key === 'ArrowUp' || event.key === 'k' ? row?.previousElementSibling : undefined;
    if (!next) return;
    event.preventDefault();
    next.querySelector('a')?.focus();
  }
}

/** @param {Order} order */
function row({ orderId, createdAt, customerId, totalMinor, currency }) {
  return h(
    'tr',
    {},
    h('th', { scope: 'row' }, h('a', { href: `/order?id=${orderId}`, title: orderId }, shortId(orderId))),
    h('td', {}, relativeTime(createdAt)),
    h('td', { class: 'who', title: customerId }, customerId),
    h('td', { class: 'figure' }, money(totalMinor, currency)),
    ...SERVICES.map((service) => h('td', { 'data-name': capital(service) })),
    h('td', {}),
  );
}

/** @param {HTMLElement} element @param {Order} order */
function update(element, order) {
  const cells = [...SERVICES.map((service) => stateOf(order, service)), overallOf(order)];
  cells.forEach((state, at) => fillIf(/** @type {Element} */ (element.children[4 + at]), [state.word, state.tone], () => [chip(state)]));
}

customElements.define('orders-page', OrdersPage);
