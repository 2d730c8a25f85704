/**
 * @file Puts the page together: the form's receipts go to the feed, the feed's views go to the
 * list, the receipt and the sign in the header. The only place that knows all of them.
 */

import { follow } from './feed.js';
import { OrderForm } from './form.js';
import { LinkState } from './link.js';
import { OrderList } from './orders.js';
import { OrderReceipt } from './receipt.js';
import { say } from './dom.js';
import { SERVICES, capital, isClosed, overallOf, shortId, statusOf, troubleOf } from './words.js';

/** @typedef {import('./api.js').Order} Order */
/** @typedef {import('./feed.js').View} View */

/** Announcements are gathered this long, so that three services finishing make one sentence. */
const ANNOUNCE_AFTER_MS = 700;

/** Orders submitted or cancelled here whose changes are announced. */
const ANNOUNCED_MAX = 20;

/**
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} type
 * @returns {T}
 */
function part(selector, type) {
  const element = document.querySelector(selector);
  if (!(element instanceof type)) throw new Error(`index.html has no ${selector}`);
  return element;
}

const form = part('order-form', OrderForm);
const list = part('order-list', OrderList);
const receipt = part('order-receipt', OrderReceipt);
const link = part('link-state', LinkState);
const announcer = part('#announcer', HTMLElement);

/** @type {string[]} */
let waiting = [];

/** Says something to people who do not see the page. @param {string} sentence */
function announce(sentence) {
  if (waiting.push(sentence) > 1) return;
  setTimeout(() => {
    say(announcer, waiting.join(' '));
    waiting = [];
  }, ANNOUNCE_AFTER_MS);
}

/** The last announced state of these orders. @type {Map<string, Order | undefined>} */
const announced = new Map();

/** @param {Order} order */
function announceChanges(order) {
  const before = announced.get(order.orderId);
  if (before === order) return;
  announced.set(order.orderId, order);
  for (const service of SERVICES) {
    const status = statusOf(order.status[service]);
    const trouble = troubleOf(order, service);
    const settledNow = status.settled && order.status[service] !== before?.status[service];
    if (trouble && (!before || trouble !== troubleOf(before, service))) announce(`${capital(service)}: ${trouble}.`);
    else if (settledNow) announce(`${capital(service)}: ${status.word}.`);
  }
  if (isClosed(order) && order.overall !== before?.overall) announce(`Order ${shortId(order.orderId)}: ${overallOf(order).word}.`);
}

/** Announces what becomes of an order, and keeps it current. @param {string} orderId @param {Order} [order] */
function attend(orderId, order) {
  announced.set(orderId, order);
  const [oldest] = announced.keys();
  if (announced.size > ANNOUNCED_MAX && oldest) announced.delete(oldest);
  feed.watch(orderId);
}

/** @type {View['link']['state']} */
let linkState = 'connecting';

const feed = follow((view) => {
  link.link = view.link;
  list.view = view;
  for (const order of view.orders ?? []) {
    receipt.order = order;
    if (announced.has(order.orderId)) announceChanges(order);
  }
  if (view.link.state !== linkState) {
    if (view.link.state === 'offline') announce('Offline, retrying.');
    if (view.link.state === 'polling') {
      if (linkState === 'offline') announce('Back online.');
      void form.load();
    }
    linkState = view.link.state;
  }
});

form.onaccepted = ({ orderId, tookMs }) => {
  list.answers.set(orderId, tookMs);
  receipt.receipt = { orderId, tookMs };
  announce(`Order ${shortId(orderId)} accepted in ${Math.round(tookMs)} milliseconds.`);
  attend(orderId);
};
form.onproducts = (products) => {
  for (const { sku, name } of products) list.names.set(sku, name);
};
list.oncancelled = (order) => attend(order.orderId, order);
list.onmore = feed.more;
list.onpause = feed.pause;
list.onresume = feed.resume;
link.onretry = feed.resume;
