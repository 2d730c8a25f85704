/**
 * @file The list of recent orders and one card per order. Draws what the feed's view says, nothing
 * sooner; a card asks for the history of its order only while it is open.
 */

import { asProblem, cancelOrder, getOrder } from './api.js';
import { attribute, bar, copyButton, fill, h, icon, keyed, relativeTime, say } from './dom.js';
import { OrderHull } from './hull.js';
import { reasonOf } from './link.js';
import { timeline } from './timeline.js';
import { SERVICES, capital, counted, duration, enumerate, exact, isCancellable, isClosed, money, overallOf, sentences, shortId, statusOf, troubleOf } from './words.js';

/** @typedef {import('./api.js').Order} Order */
/** @typedef {import('./api.js').Message} Message */
/** @typedef {import('./feed.js').View} View */

/** Cards drawn in outline while the first answer is on its way. */
const SKELETON_CARDS = 3;

/** A press on Cancel asks for a second one, which has to come within this. */
const SURE_WITHIN_MS = 4_000;

export class OrderList extends HTMLElement {
  /** What the buttons do; set by the page. */
  onmore = () => {};
  onpause = () => {};
  onresume = () => {};
  /** Called when the server has taken a cancellation; set by the page. @type {(order: Order) => void} */
  oncancelled = () => {};
  /** The measured answer times of the orders submitted here, by order id. @type {Map<string, number>} */
  answers = new Map();
  /** Product names by SKU. @type {Map<string, string>} */
  names = new Map();

  #count = h('span', { class: 'count' });
  #pause = h('button', { type: 'button', class: 'quiet' });
  #banner = h('div', { class: 'banner', hidden: true });
  #attention = h('details', { class: 'attention', hidden: true });
  #list = h('ol', { class: 'orders', role: 'list' });
  #notice = h('div', { class: 'notice' });
  #foot = h('div', { class: 'foot' });
  #drawn = { notice: '', foot: '', banner: '', attention: '', paused: /** @type {boolean | undefined} */ (undefined) };

  connectedCallback() {
    const title = h('h2', { id: 'orders-title' }, 'Recent orders ', this.#count);
    this.#pause.addEventListener('click', () => (this.#drawn.paused ? this.onresume() : this.onpause()));
    this.append(h('div', { class: 'list-head' }, title, this.#pause), this.#banner, this.#attention, this.#list, this.#notice, this.#foot);
  }

  /** @param {View} view */
  set view(view) {
    const orders = view.orders ?? [];
    this.#drawPause(view.link.state === 'paused');
    this.#drawBanner(view);
    this.#drawAttention(view);
    attribute(this, 'aria-busy', view.orders === undefined);
    attribute(this.#list, 'hidden', orders.length === 0);
    const first = this.#list.childElementCount === 0;
    keyed(
      this.#list,
      orders,
      (order) => order.orderId,
      () => {
        const card = new OrderCard();
        card.oncancelled = (order) => this.oncancelled(order);
        const row = h('li', { class: first ? 'row' : 'row arriving' }, card);
        return row;
      },
      (row, order) => {
        const card = /** @type {OrderCard} */ (row.firstElementChild);
        card.names = this.names;
        card.answerMs = this.answers.get(order.orderId);
        card.order = order;
      },
    );
    say(this.#count, orders.length > 0 ? `${orders.length}${view.older.state === 'none' ? '' : '+'}` : '');
    this.#drawNotice(view);
    this.#drawFoot(view);
  }

  /** @param {boolean} paused */
  #drawPause(paused) {
    if (this.#drawn.paused === paused) return;
    this.#drawn.paused = paused;
    fill(this.#pause, icon(paused ? 'resume' : 'pause'), paused ? 'Resume updates' : 'Pause updates');
  }

  /** Old news stays on the screen, but not without saying that it is old. @param {View} view */
  #drawBanner({ link, orders }) {
    const stale = link.state === 'offline' && orders !== undefined;
    const look = stale ? `${link.since} ${link.problem.title} ${link.problem.detail}` : '';
    if (look === this.#drawn.banner) return;
    this.#drawn.banner = look;
    attribute(this.#banner, 'hidden', !stale);
    if (!stale) return;
    const since = new Date(link.since).toISOString();
    fill(
      this.#banner,
      icon('warning'),
      h('p', {}, h('strong', {}, sentences(link.problem.title)), ` ${sentences(link.problem.detail)} Below is what was known `, relativeTime(since), '.'),
    );
  }

  /** What does not get on by itself. @param {View} view */
  #drawAttention({ attention: { stuckOrders, parkedEvents } = { stuckOrders: [], parkedEvents: [] } }) {
    const look = JSON.stringify([stuckOrders, parkedEvents]);
    if (look === this.#drawn.attention) return;
    this.#drawn.attention = look;
    const stuck = stuckOrders.length > 0 && `${counted(stuckOrders.length, 'order')} late`;
    const parked = parkedEvents.length > 0 && `${counted(parkedEvents.length, 'event')} that the topic cannot take`;
    attribute(this.#attention, 'hidden', !stuck && !parked);
    const row = (/** @type {string} */ orderId, /** @type {string} */ text, /** @type {string} */ at) =>
      h('li', {}, h('code', { title: orderId }, shortId(orderId)), h('span', {}, text), relativeTime(at));
    fill(
      this.#attention,
      h('summary', {}, icon('chevron'), h('span', {}, h('strong', {}, 'Needs attention: '), enumerate([stuck, parked].flatMap((text) => text || [])))),
      h(
        'ul',
        { role: 'list' },
        ...stuckOrders.map(({ orderId, waitsFor, createdAt }) => row(orderId, waitsFor.length > 0 ? `waits for ${enumerate(waitsFor)}` : 'waits to be closed', createdAt)),
        ...parkedEvents.map(({ orderId, eventType, reason, createdAt }) => row(orderId, `${eventType}${reason ? `: ${reason}` : ''}`, createdAt)),
      ),
    );
  }

  /** What stands where orders would: nothing yet, nothing at all, or the reason. @param {View} view */
  #drawNotice({ orders, link }) {
    const what = orders ? (orders.length > 0 ? 'none' : 'empty') : link.state === 'offline' ? 'error' : link.state === 'paused' ? 'paused' : 'loading';
    const look = what === 'error' && link.state === 'offline' ? `${reasonOf(link)} ${link.problem.title} ${link.problem.detail}` : what;
    if (look === this.#drawn.notice) return;
    this.#drawn.notice = look;
    if (what === 'none') fill(this.#notice);
    if (what === 'paused') fill(this.#notice, h('p', { class: 'muted' }, 'Updates are paused.'));
    if (what === 'loading') fill(this.#notice, h('p', { class: 'unseen' }, 'Reading orders'), ...Array.from({ length: SKELETON_CARDS }, skeleton));
    if (what === 'empty') {
      fill(this.#notice, h('div', { class: 'empty' }, emptyHull(), h('p', {}, h('strong', {}, 'No orders yet.')), h('p', {}, 'Submit one. It appears here with a compartment for each service.')));
    }
    if (what === 'error' && link.state === 'offline') {
      fill(
        this.#notice,
        h('div', { class: 'empty bad' }, icon('warning'), h('p', {}, h('strong', {}, 'The orders cannot be read.')), h('p', {}, sentences(link.problem.title, link.problem.detail)), trace(link.problem)),
      );
    }
  }

  /** @param {View} view */
  #drawFoot({ older, orders }) {
    const look = older.state === 'failed' ? older.problem.title : older.state + (orders?.length ? '' : ' empty');
    if (look === this.#drawn.foot) return;
    const hadFocus = this.#foot.contains(document.activeElement);
    this.#drawn.foot = look;
    const button = (/** @type {string} */ label) => h('button', { type: 'button', class: 'more', 'aria-disabled': older.state === 'loading', onclick: () => this.onmore() }, label);
    if (!orders?.length) fill(this.#foot);
    else if (older.state === 'none') fill(this.#foot, h('p', { class: 'muted' }, 'No older orders.'));
    else if (older.state === 'full') fill(this.#foot, h('p', { class: 'muted' }, 'There are older orders. The API pages through all of them.'));
    else if (older.state === 'idle') fill(this.#foot, button('Load more'));
    else if (older.state === 'loading') fill(this.#foot, button('Loading…'));
    else if (older.state === 'failed') fill(this.#foot, h('p', { class: 'error', role: 'alert' }, icon('warning'), `Older orders could not be read. ${sentences(older.problem.title)}`), button('Try again'));
    if (hadFocus) this.#foot.querySelector('button')?.focus();
  }
}

export class OrderCard extends HTMLElement {
  /** Milliseconds until the 202, when this page submitted the order. @type {number | undefined} */
  answerMs;
  /** @type {Map<string, string>} */
  names = new Map();
  /** Called when the server has taken a cancellation. @type {(order: Order) => void} */
  oncancelled = () => {};
  /** @type {Order | undefined} */
  #order;
  #meta = h('p', { class: 'meta' });
  #overall = h('span', { class: 'chip' });
  #hull = new OrderHull();
  #notes = h('ul', { class: 'notes', role: 'list' });
  #details = h('details', { class: 'more-about' });
  #about = h('div', { class: 'about' });
  #cancel = h('button', { type: 'button', class: 'quiet', hidden: true, onclick: () => void this.#pressCancel() });
  #refusal = h('p', { class: 'error', role: 'alert' });
  #step = /** @type {'ask' | 'sure' | 'sending'} */ ('ask');
  /** @type {{ order: Order, etag: string | null } | undefined} */
  #whole;

  /** @param {Order} order */
  set order(order) {
    if (order === this.#order) {
      // The last message to the customer follows the last change of the order.
      if (this.#details.open && this.#whole && isClosed(order) && !this.#whole.order.messages?.some(({ notice }) => notice === order.overall)) void this.#readWhole();
      return;
    }
    if (!this.#order) this.#build(order);
    this.#order = order;
    const overall = overallOf(order);
    if (this.#overall.textContent !== overall.word) {
      fill(this.#overall, icon(overall.icon), overall.word);
      attribute(this.#overall, 'data-tone', overall.tone);
    }
    this.#hull.order = order;
    this.#drawNotes(order);
    this.#drawCancel();
    if (this.#details.open) void this.#readWhole();
  }

  /** @param {Order} order */
  #build(order) {
    const { orderId } = order;
    const titleId = `order-${orderId}`;
    const units = order.items?.reduce((sum, item) => sum + item.quantity, 0) ?? 0;
    fill(
      this.#meta,
      h('span', {}, order.customerId),
      h('span', {}, counted(units, 'item')),
      h('span', { class: 'figure' }, money(order.totalMinor, order.currency)),
      this.answerMs !== undefined && h('span', { class: 'figure mine', title: 'Measured in this page' }, `202 in ${duration(this.answerMs)}`),
      relativeTime(order.createdAt),
    );
    this.#details.append(h('summary', {}, icon('chevron'), 'History, items and messages', h('span', { class: 'unseen' }, ` of order ${shortId(orderId)}`)), this.#about);
    this.#details.addEventListener('toggle', () => this.#details.open && void this.#readWhole());
    this.append(
      h(
        'article',
        { class: 'card', 'aria-labelledby': titleId },
        h('div', { class: 'card-head' }, h('h3', { id: titleId, title: orderId }, h('span', { class: 'unseen' }, 'Order '), h('code', {}, shortId(orderId))), this.#meta, this.#overall),
        this.#hull,
        this.#notes,
        this.#refusal,
        h('div', { class: 'card-foot' }, this.#details, this.#cancel),
      ),
    );
  }

  /** @param {Order} order */
  #drawNotes(order) {
    const notes = SERVICES.flatMap((service) => {
      const text = troubleOf(order, service);
      return text ? [{ service, text, status: statusOf(order.status[service]) }] : [];
    });
    keyed(
      this.#notes,
      notes,
      ({ service, status }) => service + status.icon,
      ({ service, status }) => h('li', { 'data-tone': status.tone }, icon(status.tone === 'bad' ? status.icon : 'retry'), h('p', {}, h('strong', {}, capital(service)), ' ', h('span'))),
      (row, { text }) => row.lastElementChild?.lastElementChild && say(row.lastElementChild.lastElementChild, text),
    );
  }

  #drawCancel() {
    const order = this.#order;
    if (!order) return;
    const offered = isCancellable(order);
    if (!offered) this.#step = 'ask';
    if (!offered && this.#cancel === document.activeElement) this.#details.querySelector('summary')?.focus();
    attribute(this.#cancel, 'hidden', !offered);
    attribute(this.#cancel, 'aria-disabled', this.#step === 'sending');
    if (this.#cancel.dataset.step === this.#step) return;
    const label = { ask: 'Cancel', sure: 'Press again to cancel', sending: 'Cancelling' }[this.#step];
    fill(this.#cancel, icon('undone'), h('span', {}, label, h('span', { class: 'unseen' }, ` order ${shortId(order.orderId)}`)));
    attribute(this.#cancel, 'data-step', this.#step);
  }

  async #pressCancel() {
    const order = this.#order;
    if (!order || this.#step === 'sending') return;
    if (this.#step === 'ask') {
      this.#to('sure');
      setTimeout(() => this.#step === 'sure' && this.#to('ask'), SURE_WITHIN_MS);
      return;
    }
    this.#to('sending');
    fill(this.#refusal);
    try {
      await cancelOrder(order.orderId);
      // The button goes when the store says so.
      this.oncancelled(order);
    } catch (error) {
      const { title, detail } = asProblem(error);
      fill(this.#refusal, h('span', {}, icon('warning'), sentences(title, detail)));
      this.#to('ask');
    }
  }

  /** @param {'ask' | 'sure' | 'sending'} step */
  #to(step) {
    this.#step = step;
    this.#drawCancel();
  }

  async #readWhole() {
    const order = this.#order;
    if (!order) return;
    if (this.#about.childElementCount === 0) fill(this.#about, h('p', { class: 'muted' }, 'Reading the history…'));
    try {
      this.#whole = (await getOrder(order.orderId, { etag: this.#whole?.etag })) ?? this.#whole;
      if (this.#whole) this.#drawAbout(this.#whole.order);
    } catch (error) {
      const problem = asProblem(error);
      fill(
        this.#about,
        h('p', { class: 'error', role: 'alert' }, icon('warning'), `The history cannot be read. ${sentences(problem.title)}`),
        h('button', { type: 'button', class: 'quiet', onclick: () => void this.#readWhole() }, icon('retry'), 'Try again'),
      );
    }
  }

  /** @param {Order} order */
  #drawAbout(order) {
    const self = order.links?.self ?? `/api/orders/${encodeURIComponent(order.orderId)}`;
    // Redrawing would take the focus from the button that is in use.
    if (this.#about.contains(document.activeElement) && this.#about.querySelector('.ids')) {
      this.#about.querySelector('.history')?.replaceWith(history(order));
      this.#about.querySelector('.messages')?.replaceWith(messages(order.messages ?? []));
      return;
    }
    fill(
      this.#about,
      h('h4', {}, 'History'),
      history(order),
      h('h4', {}, 'Items'),
      h(
        'ul',
        { class: 'items', role: 'list' },
        ...order.items.map((item) =>
          h('li', {}, h('span', {}, this.names.get(item.sku) ?? item.sku), h('span', { class: 'figure muted' }, `${item.quantity} × ${money(item.unitPriceMinor, order.currency)}`), h('span', { class: 'figure' }, money(item.quantity * item.unitPriceMinor, order.currency))),
        ),
      ),
      h('h4', {}, 'Messages to the customer'),
      messages(order.messages ?? []),
      h('div', { class: 'ids' }, h('code', {}, order.orderId), copyButton('Copy id', () => order.orderId), h('a', { href: self, target: '_blank', rel: 'noopener' }, 'JSON')),
    );
  }
}

/** @param {Order} order */
function history(order) {
  const rows = timeline(order);
  if (rows.length === 0) return h('p', { class: 'history muted' }, 'Nothing has been written down yet.');
  const from = Date.parse(order.createdAt);
  const span = Math.max(1, ...rows.flatMap(({ at, stretches }) => [at, ...stretches.map(({ to }) => to)]).map((at) => at - from));
  return h(
    'ol',
    { class: 'history', role: 'list' },
    ...rows.map(({ at, who, what, icon: picture, tone, note, tookMs, wait, stretches }) =>
      h(
        'li',
        { 'data-tone': tone },
        h('time', { class: 'figure', title: exact(at) }, at > from ? `+${duration(at - from)}` : '0 ms'),
        icon(picture),
        h(
          'span',
          {},
          h('strong', {}, capital(who)),
          ` ${what}`,
          tookMs !== undefined && h('span', { class: 'muted' }, ` in ${duration(tookMs)}`),
          wait && h('span', { class: 'muted' }, `, ${wait}`),
          note && `: ${note}`,
        ),
        stretches.length > 0 && bar(...stretches.map((stretch) => ({ share: (stretch.to - stretch.from) / span, tone: stretch.tone, from: (stretch.from - from) / span }))),
      ),
    ),
  );
}

/** @param {Message[]} told oldest first */
function messages(told) {
  if (told.length === 0) return h('p', { class: 'messages muted' }, 'The customer has not been told anything yet.');
  return h('ul', { class: 'messages', role: 'list' }, ...told.map(({ at, subject, text }) => h('li', {}, icon('message'), h('p', {}, h('strong', {}, sentences(subject)), ` ${text} `, h('span', { class: 'muted' }, relativeTime(at))))));
}

/** @param {import('./api.js').Problem} problem */
const trace = (problem) => (problem.traceId ? h('p', { class: 'muted' }, 'Trace ', h('code', {}, problem.traceId)) : null);

const skeleton = () => h('div', { class: 'skeleton', 'aria-hidden': 'true' }, h('span', { class: 'bone' }), h('div', { class: 'hull' }, ...SERVICES.map(() => h('div', { class: 'room' }))));

const emptyHull = () => h('div', { class: 'hull hollow', 'aria-hidden': 'true' }, ...SERVICES.map((service) => h('div', { class: 'room' }, capital(service))));

customElements.define('order-card', OrderCard);
customElements.define('order-list', OrderList);
