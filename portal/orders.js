/**
 * @file The live table of orders. Only the rows in sight exist; filters live in the address, so that
 * a view can be shared.
 */

import { attribute, button, chip, empty, fill, fillIf, h, keyed, loading, relativeTime, say, trouble } from './dom.js';
import { ORDERS_MAX, link, listen, loaded, newest, pause, resume } from './feed.js';
import { go, query, setQuery } from './route.js';
import { SERVICES, STATES, capital, money, number, overallOf, shortId, stateOf } from './words.js';

/** @typedef {import('./api.js').Order} Order */

/**
 * How long rows are made at a stretch; the rest follows in a task of its own, so that a scroll or a
 * key never waits, however slow the machine. Half a frame: the browser lays out and paints as well.
 */
const SLICE_MS = 8;

/** Rows beyond those in sight, on both sides: a quick scroll and the arrow keys find them there. */
const OVERSCAN = 8;

export class OrdersPage extends HTMLElement {
  /** @type {Order[]} */
  #shown = [];
  /** Filtered by nothing but the text, for the counts. @type {Map<string, number>} */
  #counts = new Map();
  #stop = () => {};
  #isDue = false;
  /** Until there is a row to be measured; on a phone it is another. */
  #rowHeight = 44;
  #search = h('input', { type: 'search', id: 'search', placeholder: 'Customer or order id', 'aria-label': 'Search customer or order id', oninput: () => this.#filter('text', this.#search.value) });
  #chips = h('div', { class: 'filters', role: 'group', 'aria-label': 'State' });
  #pause = h('button', { type: 'button', class: 'quiet', onclick: () => (link.state === 'paused' ? resume() : pause()) });
  #rows = h('tbody');
  #table = h('table', { class: 'orders' }, h('caption', { class: 'unseen' }, 'Orders, newest first'), h('thead', {}, h('tr', {}, ...['Order', 'Age', 'Customer', 'Total', ...SERVICES.map(capital), 'State'].map((name) => h('th', { scope: 'col' }, name)))), this.#rows);
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
      const id = target.closest('tr:not([aria-hidden])')?.getAttribute('data-key');
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
    this.#later();
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

  /** Draws after the next frame, in a task of its own: what the browser makes of a slice is another. */
  #later() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() =>
      setTimeout(() => {
        this.#isDue = false;
        if (this.isConnected) this.#draw();
      }),
    );
  }

  /**
   * Puts the rows in sight into the table, with gaps as high as what is not drawn. What is there stays,
   * so does whatever has the focus; what a slice has no time for is made by the next.
   */
  #draw() {
    if (this.#shown.length === 0) return fill(this.#rows);
    const there = new Map([...this.#rows.children].map((element) => [element.getAttribute('data-key') ?? '', /** @type {HTMLElement} */ (element)]));
    const focused = this.#rows.querySelector('tr:focus-within');
    this.#rowHeight = this.#rows.querySelector('a')?.closest('tr')?.getBoundingClientRect().height ?? this.#rowHeight;
    const height = this.#rowHeight;
    const top = -this.#table.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / height) - OVERSCAN);
    const last = Math.min(this.#shown.length, Math.ceil((top + innerHeight) / height) + OVERSCAN);
    const places = Array.from({ length: Math.max(0, last - first) }, (_, nth) => first + nth);
    const kept = focused ? this.#shown.findIndex(({ orderId }) => orderId === focused.getAttribute('data-key')) : -1;
    if (kept >= last) places.push(kept);
    else if (kept >= 0 && kept < first) places.unshift(kept);
    const until = performance.now() + SLICE_MS;
    let made = 0;
    let end = 0;
    /** @type {{ key: string, at: number, order?: Order }[]} */
    const rows = [];
    for (const at of places) {
      const order = /** @type {Order} */ (this.#shown[at]);
      const key = order.orderId;
      if (!there.has(key)) {
        if (made > 0 && performance.now() > until) continue;
        made += 1;
        there.set(key, row(order));
      }
      if (at > end) rows.push({ key: `before ${key}`, at: at - end });
      rows.push({ key, at, order });
      end = at + 1;
    }
    const drawn = rows.filter(({ order }) => order);
    if (drawn.length < places.length) this.#later();
    if (end < this.#shown.length) rows.push({ key: 'after', at: this.#shown.length - end });
    attribute(this.#table, 'aria-rowcount', this.#shown.length + 1);
    keyed(this.#rows, rows, ({ key }) => key, ({ key, order }) => (order && there.get(key)) || gap(), (element, { order, at }) => {
      if (!order) return void (element.style.height = `${at * height}px`);
      // The first line has the names of the columns.
      attribute(element, 'aria-rowindex', at + 2);
      update(element, order);
    });
    // What had the focus does not fit the filter any more: the one that has taken its place has it now.
    if (focused && kept < 0) this.#focus((drawn.find(({ at }) => at + 2 >= Number(focused.ariaRowIndex)) ?? drawn.at(-1))?.key);
  }

  /** @param {string | undefined} id */
  #focus(id) {
    /** @type {HTMLElement | null} */ (this.#rows.querySelector(`[data-key="${id}"] a`))?.focus({ preventScroll: true });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    const row = /** @type {Element} */ (event.target).closest('tr');
    const next = step && this.#shown[this.#shown.findIndex(({ orderId }) => orderId === row?.dataset.key) + step];
    if (!row || !next) return;
    event.preventDefault();
    const link = this.#rows.querySelector(`[data-key="${next.orderId}"] a`);
    // It is not drawn where one has scrolled away from it: back to where the focus is.
    if (link instanceof HTMLElement) link.focus();
    else row.scrollIntoView({ block: 'center' });
  }
}

/** Stands for orders that are not drawn. */
const gap = () => h('tr', { 'aria-hidden': 'true' }, h('td', { colspan: 8 }));

/** @param {Order} order */
function row(order) {
  const { orderId, createdAt, customerId, totalMinor, currency } = order;
  const element = h(
    'tr',
    {},
    h('th', { scope: 'row' }, h('a', { href: `/order?id=${orderId}`, title: orderId }, shortId(orderId))),
    h('td', {}, relativeTime(createdAt)),
    h('td', { class: 'who', title: customerId }, customerId),
    h('td', { class: 'figure' }, money(totalMinor, currency)),
    ...SERVICES.map((service) => h('td', { 'data-name': capital(service) })),
    h('td', {}),
  );
  update(element, order);
  return element;
}

/** @param {HTMLElement} element @param {Order} order */
function update(element, order) {
  const cells = [...SERVICES.map((service) => stateOf(order, service)), overallOf(order)];
  cells.forEach((state, at) => fillIf(/** @type {Element} */ (element.children[4 + at]), [state.word, state.tone], () => [chip(state)]));
}

customElements.define('orders-page', OrdersPage);
