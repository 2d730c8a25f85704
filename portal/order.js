/**
 * @file One order: where it stands, what happened when, its event, its document with the last patch
 * marked, its history, what the customer was told, what the processes said about it, and what can be
 * done now.
 */

import { areFaultsAllowed, asProblem, get, isLocal, orderPath, post, submit } from './api.js';
import { attribute, button, chip, copyButton, curl, empty, fill, fillIf, h, icon, loading, relativeTime, sure, trouble } from './dom.js';
import { listen } from './feed.js';
import { OrderHull } from './hull.js';
import { recordLine } from './logs.js';
import { go, query } from './route.js';
import { OrderWaterfall } from './waterfall.js';
import { SERVICES, capital, duration, exact, happeningOf, isCancellable, isClosed, isSettled, money, overallOf, reason, sealedOf, shortId, troubleOf, verdict } from './words.js';

/** @typedef {import('./api.js').Order} Order */

/** While something goes on, bars grow this often; the store is asked only when the feed says so. */
const GROW_EVERY_MS = 1_000;

export class OrderPage extends HTMLElement {
  #id = query('id');
  #faultsAllowed = false;
  #stop = () => {};
  #timer = 0;
  /** @type {Order | undefined} */
  #order;
  /** @type {{ document: any, events: any[] } | undefined} */
  #record;
  #reading = false;
  #again = false;
  #chip = h('span');
  #hull = new OrderHull();
  #waterfall = new OrderWaterfall();
  #facts = h('dl', { class: 'facts' });
  #verdict = h('p', { class: 'verdict' });
  #actions = h('div', { class: 'actions' });
  #said = h('div');
  #history = h('section', { class: 'panel' });
  #told = h('section', { class: 'panel' });
  #events = h('section', { class: 'panel' });
  #document = h('section', { class: 'panel' });
  #logs = h('section', { class: 'panel', hidden: true });

  connectedCallback() {
    fill(this, h('h1', {}, 'Order'), loading('Reading the order', 6));
    this.#stop = listen((changed) => (changed.has(this.#id) || !this.#order) && void this.#read());
    this.#timer = window.setInterval(() => this.#order && !isSettled(this.#order) && this.#drawTime(), GROW_EVERY_MS);
    if (!this.#reading) void this.#read();
  }

  disconnectedCallback() {
    this.#stop();
    clearInterval(this.#timer);
  }

  async #read() {
    this.#again = true;
    if (this.#reading) return;
    this.#reading = true;
    while (this.#again) {
      this.#again = false;
      try {
        const { body } = await get(orderPath(this.#id));
        if (!this.#order) this.#frame();
        this.#order = body;
        this.#draw(body);
        // Customers may not see the record; what they see is whole without it.
        this.#record = (await get(`/api/ops/orders/${this.#id}`).catch(() => undefined))?.body;
        this.#faultsAllowed = await areFaultsAllowed().catch(() => false);
        this.#draw(body);
        void this.#readLogs();
      } catch (error) {
        const problem = asProblem(error);
        if (this.#order) fill(this.#said, trouble(problem, 'What is shown may be old.'));
        else if (problem.status === 404) fill(this, h('h1', {}, 'Order'), empty('There is no such order.', `${this.#id || 'No id'} is not known here. An order that was never answered with 202 does not exist; one of another customer is not shown.`, h('a', { class: 'more', href: '/orders' }, 'All orders')));
        else fill(this, h('h1', {}, 'Order'), trouble(problem, 'The order cannot be read.'), h('p', {}, button('Try again', () => this.#read(), { class: 'quiet' }, 'retry')));
      }
    }
    this.#reading = false;
  }

  #frame() {
    fill(
      this,
      h('div', { class: 'head' }, h('h1', {}, 'Order ', h('code', { title: this.#id }, shortId(this.#id))), this.#chip),
      this.#verdict,
      this.#hull,
      this.#actions,
      this.#said,
      h('section', { class: 'panel' }, h('h2', {}, 'Where the time went'), this.#waterfall),
      h('div', { class: 'halves' }, h('div', {}, this.#history, this.#told), h('div', {}, h('section', { class: 'panel' }, h('h2', {}, 'Order'), this.#facts), this.#events, this.#document)),
      this.#logs,
    );
  }

  #drawTime() {
    const published = this.#record?.events[0]?.publishedAt ?? this.#order?.createdAt;
    if (this.#order) this.#waterfall.draw(this.#order, Date.parse(published));
  }

  /** @param {Order} order */
  #draw(order) {
    const { history = [], messages = [] } = order;
    fillIf(this.#chip, overallOf(order), () => [chip(overallOf(order))]);
    fillIf(this.#verdict, verdict(order), () => [verdict(order)]);
    this.#hull.order = order;
    this.#drawTime();
    this.#drawActions(order);
    const trace = this.#record?.events[0]?.event.traceparent?.split('-')[1];
    fillIf(this.#facts, [trace, order.orderId], () =>
      [
        ['Id', this.#id],
        ['Customer', order.customerId],
        ['Total', money(order.totalMinor, order.currency)],
        ['Items', order.items.map(({ sku, quantity, unitPriceMinor }) => `${quantity} × ${sku} at ${money(unitPriceMinor, order.currency)}`).join(', ')],
        ['Accepted', exact(Date.parse(order.createdAt))],
        ['Correlation', order.correlationId],
        ['Trace', trace],
        ['Failures asked for', Object.entries(order.faults ?? {}).map((pair) => pair.join(': ')).join(', ')],
      ].flatMap(([name, value]) => (value ? [h('dt', {}, name), h('dd', {}, value)] : [])),
    );
    fillIf(this.#history, [history, SERVICES.map((service) => troubleOf(order, service))], () => [
      h('h2', {}, 'History'),
      h('ol', { class: 'history', role: 'list' }, ...history.map((entry) => line(entry, Date.parse(order.createdAt)))),
    ]);
    fillIf(this.#told, messages, () => [h('h2', {}, 'Told to the customer'), messages.length ? h('ul', { class: 'history', role: 'list' }, ...messages.map(({ at, subject, text }) => h('li', {}, icon('message'), h('p', {}, h('strong', {}, subject), ` ${text} `, relativeTime(at))))) : h('p', { class: 'muted' }, 'Nothing yet.')]);
    const record = this.#record;
    attribute(this.#events, 'hidden', !record);
    attribute(this.#document, 'hidden', !record);
    if (!record) return;
    fillIf(this.#events, record.events, () => [
      h('h2', {}, 'Events'),
      ...record.events.map(({ eventType, state, publishedAt, event }) => h('details', {}, h('summary', {}, h('code', {}, eventType), h('span', { class: 'muted' }, ` ${state}${publishedAt ? ` +${duration(Date.parse(publishedAt) - Date.parse(order.createdAt))}` : ''}`)), h('pre', { tabindex: '0' }, JSON.stringify(event, null, 2)))),
    ]);
    fillIf(this.#document, record.document, () => [h('h2', {}, 'Document'), h('p', { class: 'hint' }, 'As it is stored; what the last patch wrote is marked.'), h('pre', { tabindex: '0', class: 'document' }, ...marked(record.document)), copyButton('Copy document', () => JSON.stringify(record.document, null, 2))]);
  }

  /** @param {Order} order */
  #drawActions(order) {
    const [sealed] = sealedOf(order);
    const twice = this.#faultsAllowed && !!this.#record;
    fillIf(this.#actions, [sealed, isCancellable(order), isClosed(order), twice], () => [
      sealed && h('a', { class: 'more', href: `/dead-letters?source=${sealed}-sub&order=${this.#id}` }, icon('sealed'), `Find ${sealed}'s dead letter`),
      isCancellable(order) && button('Cancel order', () => this.#cancel(), { class: 'quiet' }, 'undone'),
      button('Order the same again', () => this.#act(async () => go(`/order?id=${(await submit(asNew(order))).orderId}`)), { class: 'quiet' }, 'plus'),
      twice && button('Deliver its event twice', () => this.#act(() => post(`/api/ops/orders/${this.#id}/duplicate`, { reason: 'Delivered twice from the order page' }), 'The topic has the event a second time, under another message id. The services know the event id: nothing may change but their logs.'), { class: 'quiet' }, 'retry'),
      copyButton('Copy as curl', () => curl('GET', orderPath(this.#id))),
      copyButton('Copy id', () => this.#id),
    ]);
  }

  async #cancel() {
    const goesOn = await sure(`Cancel order ${shortId(this.#id)}?`, 'What is reserved is released. A payment that has begun cannot be called off: then the order goes on.', 'Cancel order');
    if (goesOn) void this.#act(() => post(orderPath(this.#id, '/cancel')), 'Cancelled: what was done is being undone.');
  }

  /** @param {() => Promise<unknown>} action @param {string} [done] */
  async #act(action, done = '') {
    try {
      await action();
      fill(this.#said, done && h('p', { class: 'notice', role: 'status' }, icon('done'), done));
      void this.#read();
    } catch (error) {
      fill(this.#said, trouble(asProblem(error)));
    }
  }

  async #readLogs() {
    if (!(await isLocal().catch(() => false))) return;
    // What was read before stays: an order does not depend on its logs.
    const logs = await get(`/api/ops/local/logs?order=${this.#id}`).catch(() => undefined);
    if (!logs) return;
    const { records } = logs.body;
    attribute(this.#logs, 'hidden', false);
    fillIf(this.#logs, records, () => [h('h2', {}, 'Logs of this order'), records.length ? h('ol', { class: 'log', role: 'list' }, ...records.map(recordLine)) : h('p', { class: 'muted' }, 'The processes have said nothing about it since they were started.')]);
  }
}

/** @param {Order} order */
const asNew = ({ customerId, currency, items, faults }) => ({ customerId, currency, items: items.map(({ sku, quantity }) => ({ sku, quantity })), ...(faults && { faults }) });

/** @param {import('./api.js').HistoryEntry} entry @param {number} from */
function line({ at, service, what, attempt, since, note = '' }, from) {
  const { word, icon: picture, tone } = happeningOf(what);
  const took = since ? `, ${duration(Date.parse(at) - Date.parse(since))} of work` : '';
  return h('li', { 'data-tone': tone }, icon(picture), h('p', {}, h('strong', {}, capital(service ?? 'order')), ` ${attempt ? `attempt ${attempt} ` : ''}${word}`, h('span', { class: 'muted' }, took), note && `: ${reason(note)}`), h('time', { class: 'figure muted', title: exact(Date.parse(at)) }, `+${duration(Math.max(0, Date.parse(at) - from))}`));
}

/** Moments in a document, at any depth. @param {any} value @returns {string[]} */
const moments = (value) => (typeof value === 'string' ? (/^\d{4}-\d\d-\d\dT.*Z$/.test(value) ? [value] : []) : value && typeof value === 'object' ? Object.values(value).flatMap(moments) : []);

/**
 * The document as text, with what belongs to its newest moment marked: the service's stage and
 * status, the lines of history, and the roll-up when it was that which was written.
 * @param {any} document
 */
function marked(document) {
  const last = moments([document.stage, document.history, document.notified, document.cancellation]).sort().at(-1) ?? '';
  const services = SERVICES.filter((service) => document.stage?.[service]?.updatedAt === last);
  const closing = document.history?.at(-1);
  const fresh = new Set([...services.map((service) => document.stage[service]), ...(document.history ?? []).filter((/** @type {any} */ { at }) => at === last)]);
  const isFresh = (/** @type {any} */ parent, /** @type {string} */ key, /** @type {any} */ value) => fresh.has(value) || value === last || (parent === document.status && services.includes(/** @type {any} */ (key))) || (parent === document && key === 'overall' && closing?.at === last && !closing.service);
  /** @type {(Node | string)[]} */
  const parts = [];
  const write = (/** @type {any} */ value, /** @type {string} */ indent, /** @type {string} */ tail) => {
    if (!value || typeof value !== 'object' || Object.keys(value).length === 0) return void parts.push(JSON.stringify(value) + tail);
    const [open, close] = Array.isArray(value) ? '[]' : '{}';
    parts.push(`${open}\n`);
    Object.entries(value).forEach(([key, member], at, all) => {
      const comma = at < all.length - 1 ? ',\n' : '\n';
      const name = Array.isArray(value) ? '' : `${JSON.stringify(key)}: `;
      if (isFresh(value, key, member)) parts.push(`${indent}  `, h('mark', {}, name + JSON.stringify(member, null, 2).replaceAll('\n', `\n${indent}  `)), comma);
      else {
        parts.push(`${indent}  ${name}`);
        write(member, `${indent}  `, comma);
      }
    });
    parts.push(`${indent}${close}${tail}`);
  };
  write(document, '', '');
  return parts;
}

customElements.define('order-page', OrderPage);
