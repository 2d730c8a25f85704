/**
 * @file The shop: products with their stock, one order by one press, many by a slider, failures on
 * purpose, and what the last submit got for its trouble. It judges nothing itself: the rules are the
 * server's, and its complaints stand beside the fields they are about.
 */

import { asProblem, get, newKey, orderPath, submit } from './api.js';
import { BURST_MAX, burst } from './burst.js';
import { attribute, chip, copyButton, curl, empty, fill, fillIf, h, button, icon, loading, say, trouble } from './dom.js';
import { FAULTS, faultSelect, faultsFor, switchedWords } from './faults.js';
import { listen, orders } from './feed.js';
import { OrderHull } from './hull.js';
import { STATES, SERVICES, capital, counted, duration, money, number, overallOf, sealedOf, shortId, tookOf, verdict, workOf } from './words.js';

/** @typedef {import('./api.js').Product} Product */
/** @typedef {import('./api.js').NewOrder} NewOrder */

/** Stock is read again this often while the shop is open. */
const STOCK_EVERY_MS = 3_000;

/** What the first product starts with, so that one press submits an order. */
const FIRST_QUANTITY = 2;

export class ShopPage extends HTMLElement {
  /** @type {Product[]} */
  #products = [];
  /** @type {Map<string, { input: HTMLInputElement, error: HTMLElement, stock: HTMLElement }>} */
  #lines = new Map();
  /** The SKUs behind `items` of the last submit, by their index in it. @type {string[]} */
  #sent = [];
  /** A retry of the same order must carry the same key. @type {{ body: string, key: string } | undefined} */
  #unanswered;
  #timer = 0;
  #stop = () => {};
  /** @type {{ orderId: string, tookMs: number, workMs?: number } | undefined} */
  #receipt;
  #faultsAllowed = false;

  #shelf = h('div', { class: 'shelf' }, loading('Reading products', 4));
  #customer = h('input', { id: 'customer', value: 'c-demo', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'customer-error' });
  #customerError = h('p', { class: 'error', id: 'customer-error' });
  #selects = SERVICES.map((service) => faultSelect(service, `fault-${service}`));
  #faultHint = h('p', { class: 'hint' });
  #faultError = h('p', { class: 'error' });
  #faults = h('fieldset', { class: 'faults', hidden: true }, h('legend', {}, 'Make it fail'), ...SERVICES.map((service, at) => h('p', { class: 'pair' }, h('label', { for: `fault-${service}` }, capital(service)), this.#selects[at])), this.#faultHint, this.#faultError);
  #count = h('input', { id: 'burst', type: 'range', min: 0, max: 3, step: 'any', value: 0, 'aria-describedby': 'burst-hint' });
  #total = h('strong', { class: 'figure' });
  #submit = h('button', { type: 'submit', class: 'primary' });
  #alert = h('div');
  #json = h('pre', { tabindex: '0', role: 'group', 'aria-label': 'Request body' });
  #answer = h('div', { class: 'answer' });
  #bursts = h('div', { class: 'answer' });

  connectedCallback() {
    const form = h(
      'form',
      { novalidate: true, class: 'panel checkout', 'aria-label': 'Order' },
      h('p', {}, h('label', { for: 'customer' }, 'Customer'), this.#customer, this.#customerError),
      this.#faults,
      h('p', {}, h('label', { for: 'burst' }, 'How many orders'), this.#count, h('span', { class: 'hint', id: 'burst-hint' }, 'From one to a thousand at once.')),
      h('p', { class: 'total' }, h('span', {}, 'Total'), this.#total),
      this.#submit,
      this.#alert,
      h('details', {}, h('summary', {}, 'Show the request'), this.#json, copyButton('Copy as curl', () => curl('POST', '/api/orders', this.#order()))),
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#send(this.#order(), this.#howMany());
    });
    form.addEventListener('input', () => this.#refresh());
    fill(
      this,
      h('h1', {}, 'Shop'),
      h('p', { class: 'lede' }, 'The answer comes at once. Inventory, billing and notification do the work afterwards, each in a compartment of its own: break one, and watch the others carry on.'),
      h('div', { class: 'columns' }, h('div', {}, this.#answer, this.#bursts, this.#shelf), form),
    );
    this.#refresh();
    this.#stop = listen((changed) => this.#receipt && changed.has(this.#receipt.orderId) && this.#drawAnswer());
    void this.#read();
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    this.#stop();
  }

  async #read() {
    try {
      const { body } = await get('/api/products');
      this.#products = body.products;
      this.#faultsAllowed = body.faultsAllowed;
      attribute(this.#faults, 'hidden', !body.faultsAllowed);
      if (this.#lines.size === 0) this.#stockShelf();
      for (const { sku, available } of this.#products) say(this.#lines.get(sku)?.stock ?? h('p'), available > 0 ? `${number(available)} in stock` : 'Sold out: an order will fail and be undone');
    } catch (error) {
      if (this.#lines.size === 0) fill(this.#shelf, trouble(asProblem(error), 'The products cannot be read.'));
    }
    if (this.isConnected) this.#timer = window.setTimeout(() => this.#read(), STOCK_EVERY_MS);
  }

  #stockShelf() {
    if (this.#products.length === 0) return fill(this.#shelf, empty('Nothing is sold here.', 'The store holds no products. Start the stack without --no-seed.'));
    fill(this.#shelf, ...this.#products.map((product, at) => this.#card(product, at === 0 ? FIRST_QUANTITY : 0)));
    this.#refresh();
  }

  /** @param {Product} product @param {number} quantity */
  #card({ sku, name, unitPriceMinor, currency }, quantity) {
    const input = h('input', { id: `quantity-${sku}`, type: 'number', min: 0, value: quantity, 'aria-label': `${name}, quantity`, 'aria-describedby': `error-${sku}`, form: 'none', oninput: () => this.#refresh() });
    const error = h('p', { class: 'error', id: `error-${sku}` });
    const stock = h('p', { class: 'hint' });
    const step = (/** @type {number} */ by) => () => {
      input.value = String(Math.max(0, (Number(input.value) || 0) + by));
      this.#refresh();
    };
    this.#lines.set(sku, { input, error, stock });
    return h(
      'section',
      { class: 'panel product', 'aria-label': name },
      h('h2', {}, name),
      h('p', { class: 'price figure' }, money(unitPriceMinor, currency)),
      stock,
      h('div', { class: 'stepper' }, h('button', { type: 'button', 'aria-label': `One ${name} less`, onclick: step(-1) }, icon('minus')), input, h('button', { type: 'button', 'aria-label': `One ${name} more`, onclick: step(1) }, icon('plus'))),
      button('Order one', () => this.#send(this.#order([[sku, 1]]), 1), { class: 'quiet', 'aria-label': `Order one ${name}` }),
      error,
    );
  }

  #howMany() {
    return Math.min(BURST_MAX, Math.round(10 ** Number(this.#count.value)));
  }

  /** @param {(readonly [string, number])[]} [items] @returns {NewOrder} */
  #order(items) {
    const chosen = items ?? [...this.#lines].flatMap(([sku, { input }]) => (input.value.trim() && Number(input.value) !== 0 ? [/** @type {const} */ ([sku, Number(input.value)])] : []));
    this.#sent = chosen.map(([sku]) => sku);
    const faults = this.#faultsAllowed ? faultsFor(this.#chosenFaults()) : {};
    const currency = this.#products.find(({ sku }) => sku === this.#sent[0])?.currency ?? this.#products[0]?.currency ?? 'EUR';
    return { customerId: this.#customer.value, currency, items: chosen.map(([sku, quantity]) => ({ sku, quantity })), ...(Object.keys(faults).length > 0 && { faults }) };
  }

  #chosenFaults() {
    return Object.fromEntries(this.#selects.flatMap(({ name, value }) => (value ? [[name, value]] : [])));
  }

  #refresh() {
    const order = this.#order();
    const priceOf = (/** @type {string} */ wanted) => this.#products.find(({ sku }) => sku === wanted)?.unitPriceMinor ?? 0;
    say(this.#total, money(order.items.reduce((sum, { sku, quantity }) => sum + quantity * priceOf(sku), 0), order.currency));
    const many = this.#howMany();
    say(this.#submit, many === 1 ? 'Submit order' : `Submit ${number(many)} orders`);
    attribute(this.#count, 'aria-valuetext', counted(many, 'order'));
    const chosen = Object.values(this.#chosenFaults());
    const on = switchedWords();
    say(this.#faultHint, chosen.length > 0 ? chosen.map((fault) => FAULTS[fault]?.[1]).join(' ') : on.length > 0 ? `Switched on in the lab: ${on.join('; ')}.` : 'Choose what goes wrong with this order.');
    say(this.#json, JSON.stringify(order, null, 2));
  }

  /** @param {NewOrder} order @param {number} many */
  async #send(order, many) {
    if (this.#submit.ariaDisabled === 'true') return;
    this.#complain([]);
    fill(this.#alert);
    if (many > 1) return this.#burst(many);
    attribute(this.#submit, 'aria-disabled', true);
    const body = JSON.stringify(order);
    // The outcome of the last one may be unknown: the same key cannot order it twice.
    const key = this.#unanswered?.body === body ? this.#unanswered.key : newKey();
    this.#unanswered = { body, key };
    try {
      this.#receipt = await submit(order, key);
      this.#unanswered = undefined;
      this.#drawAnswer();
      this.#answer.scrollIntoView({ block: 'nearest' });
    } catch (error) {
      const problem = asProblem(error);
      if (!problem.isTransient) this.#unanswered = undefined;
      const placed = this.#complain(problem.errors);
      fill(this.#alert, trouble(problem, placed ? `${counted(placed, 'field')} to look at.` : ''), problem.isTransient && h('p', { class: 'hint' }, 'Submit again sends the same key: the order cannot be placed twice.'));
    } finally {
      attribute(this.#submit, 'aria-disabled', null);
      this.#refresh();
    }
  }

  /** Puts each complaint beside its field, and the focus on the first; how many had one. @param {import('./api.js').FieldError[]} errors */
  #complain(errors) {
    const places = [...this.#lines.values(), { input: this.#customer, error: this.#customerError }, ...this.#selects.map((input) => ({ input, error: this.#faultError }))];
    for (const { input, error } of places) {
      attribute(input, 'aria-invalid', null);
      fill(error);
    }
    const found = errors.flatMap(({ pointer, detail = 'is refused' }) => {
      const [, field, index = ''] = pointer.split('/');
      const fault = this.#selects.findIndex(({ name }) => name === index);
      const place = field === 'customerId' ? places[this.#lines.size] : field === 'faults' ? places[this.#lines.size + 1 + Math.max(0, fault)] : this.#lines.get(this.#sent[Number(index)] ?? this.#products[0]?.sku ?? '');
      if (!place) return [];
      attribute(place.input, 'aria-invalid', true);
      fill(place.error, icon('warning'), ` ${detail}`);
      return [place.input];
    });
    found[0]?.focus();
    return found.length;
  }

  #drawAnswer() {
    const receipt = this.#receipt;
    if (!receipt) return;
    const { orderId, tookMs } = receipt;
    const order = orders.get(orderId);
    const state = order && overallOf(order);
    if (state && state.key !== 'accepted' && receipt.workMs === undefined) void this.#measure(receipt);
    const { workMs } = receipt;
    const longest = Math.max(tookMs, workMs ?? 0);
    const bar = (/** @type {string} */ word, /** @type {number | undefined} */ ms, /** @type {string} */ tone) => {
      const fillOf = h('span', { class: 'fill', 'data-tone': tone });
      fillOf.style.width = `${ms === undefined ? 0 : Math.max(1, (100 * ms) / longest)}%`;
      return [h('dt', {}, word), h('dd', {}, h('span', { class: 'bar' }, fillOf), h('span', { class: 'figure' }, ms === undefined ? 'going on' : duration(ms)))];
    };
    fillIf(this.#answer, [receipt, order], () => {
      const hull = new OrderHull();
      if (order) hull.order = order;
      return [
        h(
          'section',
          { class: 'panel receipt', 'aria-label': 'Answer to the last submit' },
          h('p', { class: 'hero figure' }, duration(tookMs)),
          h('p', {}, h('strong', {}, '202 Accepted'), ' ', h('a', { href: `/order?id=${orderId}`, title: orderId }, `Order ${shortId(orderId)}`), ' ', state && chip(state)),
          h('dl', { class: 'compare' }, ...bar('You waited', tookMs, 'good'), ...bar('As one synchronous chain', workMs, 'busy')),
          order && hull,
          h('p', { class: 'verdict' }, order ? verdict(order) : 'Committed. The services have not been heard of yet.', order && state?.key === 'completed' && ` All done ${duration(tookOf(order))} after the commit.`),
          state?.key === 'attention' && order && h('p', {}, h('a', { class: 'more', href: `/dead-letters?source=${sealedOf(order)[0]}-sub&order=${orderId}` }, icon('sealed'), 'Find its dead letter, and repair it')),
        ),
      ];
    });
  }

  /** The sum of what the services did one after the other: what a caller of a chain would wait for. @param {NonNullable<ShopPage['#receipt']>} receipt */
  async #measure(receipt) {
    receipt.workMs = 0;
    try {
      const { body } = await get(orderPath(receipt.orderId));
      receipt.workMs = workOf(body) + receipt.tookMs;
      this.#drawAnswer();
    } catch {
      receipt.workMs = undefined;
    }
  }

  /** @param {number} many */
  #burst(many) {
    const box = h('section', { class: 'panel receipt', 'aria-label': `Burst of ${number(many)}` });
    fill(this.#bursts, box);
    const it = burst(() => this.#order(), many, (b) => {
      fill(
        box,
        h('h2', {}, `${number(b.ids.size)} of ${number(many)} accepted`, b.isOver && ' and at rest'),
        h('progress', { max: many, value: many - (many - b.ids.size) - b.open, 'aria-label': 'Orders at rest' }),
        h('ul', { class: 'counts', role: 'list' }, ...Object.entries(STATES).map(([key, word]) => h('li', {}, h('strong', { class: 'figure', 'data-count': key }, number(key === 'accepted' ? b.open : b.count(key))), ` ${word}`))),
        h('p', { class: 'muted figure' }, `202 in ${duration(b.quantile(0.5))} (p50), ${duration(b.quantile(0.95))} (p95); ${number(b.ids.size / (b.sendingMs / 1000 || 1))} a second accepted`, b.isOver && `; drained ${duration(b.endedAt - b.began)} after the first.`),
        b.refused > 0 && b.problem && trouble(b.problem, `${counted(b.refused, 'order')} refused.`),
        h('a', { href: '/orders' }, 'Watch them'),
      );
      if (b.problem && b.stopped) this.#complain(b.problem.errors);
    });
    void it.sent;
    box.scrollIntoView({ block: 'nearest' });
  }
}

customElements.define('shop-page', ShopPage);
