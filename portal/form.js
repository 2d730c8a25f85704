/**
 * @file The order form: one line per product, one submit, and every complaint of the server beside
 * the field it is about. It judges nothing itself; the rules are the server's.
 */

import { Problem, asProblem, getProducts, submitOrder } from './api.js';
import { attribute, copyButton, fill, h, icon, say } from './dom.js';
import { SERVICES, capital, counted, money, number, sentences } from './words.js';

/** @typedef {import('./api.js').Product} Product */
/** @typedef {import('./api.js').NewOrder} NewOrder */
/** @typedef {import('./api.js').Service} Service */
/** @typedef {import('./api.js').FieldError} FieldError */
/** @typedef {import('./receipt.js').Receipt} Receipt */
/** @typedef {{ product: Product, input: HTMLInputElement, row: HTMLElement, error: HTMLElement }} Line */

/** What the first product starts with, so that one press submits an order. */
const FIRST_QUANTITY = 2;

/** An answer that takes longer than this earns a word on the button. */
const SLOW_SUBMIT_MS = 250;

/** How often the wait that the server asked for is counted down. */
const COUNTDOWN_MS = 250;

/** Sends of one submit while the server asks to wait: after that somebody else uses the rate up, and the person decides. */
const SENDS_MAX = 10;

/** A longer wait is left to the person. */
const WAIT_MAX_MS = 10_000;

/** @type {Record<string, { option: string, hint: string }>} */
const FAULTS = {
  fail: { option: 'Fails every time', hint: 'every attempt fails until the message is dead-lettered. The others carry on.' },
  flaky: { option: 'Fails twice', hint: 'two attempts find a dependency away and come back after a back-off.' },
  decline: { option: 'Card is declined', hint: 'the bank says no, and what was reserved is released.' },
  late: { option: 'Bank answers late', hint: 'the bank takes the money, but answers too late. It is asked again and charges once.' },
  lost: { option: 'Bank answer is lost', hint: 'the bank takes the money, but its answer is lost. It is asked again and charges once.' },
};

/** The bank is billing's alone. @param {Service} service */
const faultsOf = (service) => Object.keys(FAULTS).slice(0, service === 'billing' ? undefined : 2);

/** Product lines drawn in outline while they are on their way. */
const SKELETON_LINES = 4;

export class OrderForm extends HTMLElement {
  /** Called with every accepted order; set by the page. @type {(receipt: Receipt) => void} */
  onaccepted = () => {};
  /** Called with the products; set by the page. @type {(products: Product[]) => void} */
  onproducts = () => {};

  /** @type {Line[]} */
  #lines = [];
  /** The SKUs behind `items` of the last submit, by their index in it. @type {string[]} */
  #sent = [];
  /** The submit whose outcome is unknown: a retry of the same order must carry the same key. @type {{ body: string, key: string } | undefined} */
  #unanswered;
  #state = /** @type {'new' | 'loading' | 'ready' | 'failed'} */ ('new');
  #busy = false;
  #waitUntil = 0;

  #customer = h('input', { id: 'customer', name: 'customer', value: 'c-demo', autocomplete: 'off', spellcheck: 'false', 'aria-describedby': 'customer-error' });
  #customerError = fieldError('customer-error');
  #items = h('div', { class: 'lines' });
  #itemsError = fieldError('items-error');
  #faults = SERVICES.map((service) => ({
    service,
    input: h(
      'select',
      { id: `fault-${service}`, 'aria-describedby': 'fault-hint fault-error' },
      h('option', { value: '' }, 'Works'),
      ...faultsOf(service).map((fault) => h('option', { value: fault }, FAULTS[fault]?.option)),
    ),
  }));
  #faultHint = h('p', { class: 'hint', id: 'fault-hint' });
  #faultError = fieldError('fault-error');
  #faultField = h(
    'fieldset',
    { class: 'faults', hidden: true },
    h('legend', {}, 'Make it fail'),
    ...this.#faults.map(({ service, input }) => h('div', { class: 'fault' }, h('label', { for: input.id }, capital(service)), input)),
    this.#faultHint,
    this.#faultError,
  );
  #units = h('span');
  #total = h('strong', { class: 'figure' });
  #submit = h('button', { type: 'submit', class: 'primary' }, 'Submit order');
  #alert = h('div', { class: 'alert', role: 'alert' });
  #request = h('pre', { tabindex: '0', role: 'group', 'aria-label': 'Request body' });

  connectedCallback() {
    const form = h(
      'form',
      { novalidate: true },
      h('div', { class: 'field' }, h('label', { for: 'customer' }, 'Customer'), this.#customer, this.#customerError),
      h('fieldset', { 'aria-describedby': 'items-error' }, h('legend', {}, 'Items'), this.#items, this.#itemsError),
      this.#faultField,
      h('div', { class: 'total' }, this.#units, this.#total),
      this.#submit,
      this.#alert,
      h('details', { class: 'request' }, h('summary', {}, icon('chevron'), 'Show the request'), this.#request, copyButton('Copy as curl', () => curl(this.#order()))),
    );
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.#send();
    });
    form.addEventListener('input', () => this.#refresh());
    this.append(form);
    void this.load();
  }

  /** Reads the products, unless they are here or on their way. Quantities that were entered stay. */
  async load(again = false) {
    if ((this.#state === 'ready' && !again) || this.#state === 'loading') return;
    this.#state = 'loading';
    this.#refresh();
    if (this.#items.childElementCount === 0) fill(this.#items, h('p', { class: 'unseen' }, 'Reading products'), ...Array.from({ length: SKELETON_LINES }, () => h('div', { class: 'line', 'aria-hidden': 'true' }, h('span', { class: 'bone' }), h('span', { class: 'bone' }))));
    try {
      const { products, faultsAllowed } = await getProducts();
      this.#state = products.length > 0 ? 'ready' : 'failed';
      attribute(this.#faultField, 'hidden', faultsAllowed === false || products.length === 0);
      const entered = new Map(this.#lines.map(({ product, input }) => [product.sku, input.value]));
      this.#lines = products.map((product, index) => this.#line(product, index, entered.get(product.sku)));
      if (products.length > 0) fill(this.#items, ...this.#lines.map((line) => line.row));
      else this.#sayInstead('There is nothing to sell.', 'The stock is empty. Starting the stack seeds it.');
      this.onproducts(products);
    } catch (error) {
      const problem = asProblem(error);
      this.#state = 'failed';
      this.#sayInstead('The products cannot be read.', sentences(problem.title, problem.detail));
    }
    this.#refresh();
  }

  /** @param {string} what @param {string} why */
  #sayInstead(what, why) {
    const again = h('button', { type: 'button', class: 'quiet', onclick: () => void this.load() }, icon('retry'), 'Try again');
    fill(this.#items, h('div', { class: 'empty' }, h('p', {}, h('strong', {}, what)), h('p', {}, why), again));
  }

  /** @param {Product} product @param {number} index @param {string} [entered] @returns {Line} */
  #line(product, index, entered) {
    const id = `quantity-${index}`;
    const input = h('input', { id, type: 'number', inputmode: 'numeric', min: 0, step: 1, value: entered ?? (index === 0 ? FIRST_QUANTITY : 0), 'aria-describedby': `${id}-about ${id}-error` });
    const error = fieldError(`${id}-error`);
    // The arrow keys of the field do the same: the buttons would only be two more stops for Tab.
    const step = (/** @type {number} */ by) => {
      input.value = String(Math.max(0, (input.valueAsNumber || 0) + by));
      input.dispatchEvent(new Event('input', { bubbles: true }));
    };
    const row = h(
      'div',
      { class: 'line' },
      h('div', { class: 'product' }, h('label', { for: id }, product.name), h('p', { class: 'hint', id: `${id}-about` }, `${money(product.unitPriceMinor, product.currency)} · ${product.available > 0 ? `${number(product.available)} left` : 'sold out'}`)),
      h(
        'div',
        { class: 'stepper' },
        h('button', { type: 'button', tabindex: -1, 'aria-label': `One less ${product.name}`, onclick: () => step(-1) }, icon('minus')),
        input,
        h('button', { type: 'button', tabindex: -1, 'aria-label': `One more ${product.name}`, onclick: () => step(1) }, icon('plus')),
      ),
      error,
    );
    return { product, input, row, error };
  }

  /** Lines with a quantity, whatever it is: the server says which quantities are good. */
  #chosen() {
    return this.#lines.filter(({ input }) => input.value !== '' && input.valueAsNumber !== 0);
  }

  /** @returns {NewOrder} */
  #order() {
    const chosen = this.#chosen();
    const faults = this.#faultField.hidden ? [] : this.#faults.filter(({ input }) => input.value !== '');
    return {
      customerId: this.#customer.value,
      currency: (chosen[0] ?? this.#lines[0])?.product.currency ?? 'EUR',
      items: chosen.map(({ product, input }) => ({ sku: product.sku, quantity: input.valueAsNumber, unitPriceMinor: product.unitPriceMinor })),
      ...(faults.length > 0 && { faults: Object.fromEntries(faults.map(({ service, input }) => [service, input.value])) }),
    };
  }

  /** After every edit: what depends on the whole form. */
  #refresh() {
    const order = this.#order();
    for (const { row, input } of this.#lines) row.classList.toggle('chosen', input.valueAsNumber > 0);
    const ready = this.#state === 'ready';
    const countable = order.items.every(({ quantity }) => Number.isSafeInteger(quantity) && quantity > 0);
    const sum = (/** @type {(item: NewOrder['items'][0]) => number} */ of) => order.items.reduce((total, item) => total + of(item), 0);
    say(this.#units, ready ? (countable ? counted(sum((item) => item.quantity), 'item') : 'Total') : '');
    say(this.#total, ready ? (countable ? money(sum((item) => item.quantity * item.unitPriceMinor), order.currency) : '–') : '');
    const hints = Object.entries(order.faults ?? {}).map(([service, fault]) => `${capital(service)}: ${FAULTS[fault]?.hint}`);
    say(this.#faultHint, hints.join(' ') || 'To run out of stock, order more than is left.');
    say(this.#request, JSON.stringify(order, null, 2));
    this.#label();
  }

  #label() {
    const waitMs = this.#waitUntil - Date.now();
    const retry = this.#unanswered && this.#unanswered.body === JSON.stringify(this.#order());
    const blocked = this.#busy || waitMs > 0 || this.#state !== 'ready';
    attribute(this.#submit, 'aria-disabled', blocked);
    const label = this.#busy ? 'Sending again' : retry ? 'Retry' : 'Submit order';
    if (!this.#busy || waitMs > 0) say(this.#submit, `${label}${waitMs > 0 ? ` in ${Math.ceil(waitMs / 1000)} s` : ''}`);
    if (waitMs > 0) setTimeout(() => this.#label(), COUNTDOWN_MS);
  }

  async #send() {
    if (this.#submit.getAttribute('aria-disabled')) return;
    const order = this.#order();
    const body = JSON.stringify(order);
    const key = this.#unanswered?.body === body ? this.#unanswered.key : crypto.randomUUID();
    this.#sent = order.items.map(({ sku }) => sku);
    this.#unanswered = { body, key };
    this.#busy = true;
    this.#label();
    const slow = setTimeout(() => this.#waitUntil < Date.now() && say(this.#submit, 'Submitting…'), SLOW_SUBMIT_MS);
    try {
      const { accepted, tookMs } = await this.#submitInTurn(order, key);
      this.#unanswered = undefined;
      this.#complain(undefined);
      this.onaccepted({ orderId: accepted.orderId, tookMs });
    } catch (error) {
      const problem = asProblem(error);
      if (!problem.isTransient) this.#unanswered = undefined;
      this.#waitUntil = Date.now() + (problem.retryAfterMs ?? 0);
      if (problem.errors.some(({ code }) => code === 'price_changed')) await this.load(true);
      this.#complain(problem);
    } finally {
      clearTimeout(slow);
      this.#busy = false;
      this.#label();
    }
  }

  /**
   * Submits, and while this customer is too fast, waits as long as the server asks and goes on.
   * @param {NewOrder} order
   * @param {string} key
   */
  async #submitInTurn(order, key) {
    for (let sends = 1; ; sends += 1) {
      try {
        return await submitOrder(order, key);
      } catch (error) {
        const { status, retryAfterMs = Infinity, title } = asProblem(error);
        if (status !== 429 || sends === SENDS_MAX || retryAfterMs > WAIT_MAX_MS) throw error;
        this.#waitUntil = Date.now() + retryAfterMs;
        this.#label();
        fill(this.#alert, icon('pending'), h('p', {}, h('strong', {}, sentences(title)), ' The same order goes out again as soon as the server takes it.'));
        await new Promise((resolve) => setTimeout(resolve, retryAfterMs));
        say(this.#submit, 'Submitting…');
      }
    }
  }

  /** @param {Problem | undefined} problem */
  #complain(problem) {
    const fields = [
      { input: this.#customer, error: this.#customerError },
      ...this.#faults.map(({ input }) => ({ input, error: this.#faultError })),
      { input: undefined, error: this.#itemsError },
      ...this.#lines,
    ];
    for (const { input, error } of fields) {
      fill(error);
      if (input) attribute(input, 'aria-invalid', null);
    }
    fill(this.#alert);
    if (!problem) return;

    /** @type {FieldError[]} */
    const homeless = [];
    let first = /** @type {HTMLElement | undefined} */ (undefined);
    for (const complaint of problem.errors) {
      const place = this.#placeOf(complaint.pointer);
      if (!place) {
        homeless.push(complaint);
        continue;
      }
      place.error.append(h('span', {}, icon('warning'), sentences(complaint.detail ?? complaint.code)));
      if (place.input) attribute(place.input, 'aria-invalid', true);
      first ??= place.input ?? this.#lines[0]?.input;
    }
    const placed = problem.errors.length - homeless.length;
    fill(
      this.#alert,
      icon('warning'),
      h(
        'div',
        {},
        h('p', {}, h('strong', {}, sentences(problem.title)), problem.status ? h('span', { class: 'muted' }, ` ${problem.status}`) : null),
        placed > 0 ? h('p', {}, `Nothing was stored. ${counted(placed, 'field')} to look at above.`) : problem.detail && h('p', {}, sentences(problem.detail)),
        homeless.length > 0 && h('ul', {}, ...homeless.map(({ pointer, detail, code }) => h('li', {}, h('code', {}, pointer || '/'), ` ${detail ?? code ?? ''}`))),
        this.#unanswered && h('p', {}, 'Retry sends the same idempotency key: the order cannot be placed twice.'),
        problem.traceId && h('p', { class: 'muted' }, 'Trace ', h('code', {}, problem.traceId)),
      ),
    );
    if (first) first.focus();
    else this.#alert.scrollIntoView({ block: 'nearest' });
  }

  /**
   * The field that a JSON pointer into the submitted order is about.
   * @param {string} pointer
   * @returns {{ input?: HTMLElement, error: HTMLElement } | undefined}
   */
  #placeOf(pointer) {
    const [, field, index] = pointer.split('/');
    if (field === 'customerId') return { input: this.#customer, error: this.#customerError };
    if (field === 'faults' && !this.#faultField.hidden) return { input: this.#faults.find(({ service }) => service === index)?.input, error: this.#faultError };
    if (field === 'items') return index === undefined ? { error: this.#itemsError } : this.#lines.find(({ product }) => product.sku === this.#sent[Number(index)]);
    return undefined;
  }
}

/** @param {string} id */
const fieldError = (id) => h('p', { class: 'error', id });

/** @param {NewOrder} order */
function curl(order) {
  const body = JSON.stringify(order).replaceAll("'", "'\\''");
  return [`curl -i ${location.origin}/api/orders`, `-H 'content-type: application/json'`, `-H 'idempotency-key: ${crypto.randomUUID()}'`, `-d '${body}'`].join(' \\\n  ');
}

customElements.define('order-form', OrderForm);
