/**
 * @file Keeps the newest orders current and tells whoever listens. Changes come as server-sent
 * events; when those do not get through, by polling; and it says which. Knows nothing of how orders
 * are drawn.
 */

import { Problem, asProblem, get } from './api.js';

/** @typedef {import('./api.js').Order} Order */
/** @typedef {{ state: 'connecting' | 'live' | 'polling' | 'offline' | 'paused', problem?: Problem, since?: number, retryAt?: number }} Link */

/** A stream that has not said hello by then does not get through. */
const HELLO_WITHIN_MS = 1_500;

/** A stream that ended is given this long to come back: the server ends each after two minutes. */
const BACK_WITHIN_MS = 3_000;

/** Pause between polls: soon after a change, and when nothing happens. */
const POLL_MIN_MS = 1_000;
const POLL_MAX_MS = 5_000;

/** How often polling looks whether a stream gets through again. */
const STREAM_AGAIN_MS = 10_000;

/** Longest pause after an error; doubled up to it. */
const BACKOFF_MAX_MS = 10_000;

/** Orders kept in the page. A tab left open during a burst must not grow with it. */
export const ORDERS_MAX = 1_000;

/** Orders of one page of the list. */
const PAGE_ORDERS = 100;

/** By id. An order that did not change is the same object as before. @type {Map<string, Order>} */
export const orders = new Map();

/** @type {Link} */
export let link = { state: 'connecting' };

/** Whether the list was read at least once. */
export let loaded = false;

/** @type {Set<(changed: Set<string>) => void>} */
const listeners = new Set();
/** @type {Set<string>} */
let changed = new Set();
let announced = false;
let cursor = '';
/** @type {string | null} */
let etag = null;
/** @type {EventSource | undefined} */
let source;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let failures = 0;
let quiet = 0;
let streamAgainAt = 0;
let paused = false;
let loading = false;
/** Whether the list has to be read, perhaps once more. */
let isStale = false;
/** What the stream told while the list was on its way, which is newer. @type {Set<string>} */
let streamed = new Set();

/**
 * Calls back with the ids that changed, gathered per frame, and at once.
 * @param {(changed: Set<string>) => void} listener
 * @returns {() => void} ends it
 */
export function listen(listener) {
  listeners.add(listener);
  listener(new Set(orders.keys()));
  return () => listeners.delete(listener);
}

/** The newest first. @returns {Order[]} */
export const newest = () => [...orders.values()].sort((a, b) => (a.createdAt < b.createdAt ? 1 : a.createdAt > b.createdAt ? -1 : a.orderId < b.orderId ? 1 : -1));

export function pause() {
  paused = true;
  rest();
  to({ state: 'paused' });
}

export function resume() {
  paused = false;
  failures = 0;
  open();
}

function tell() {
  if (announced) return;
  announced = true;
  // A hidden page draws no frames.
  (document.hidden ? setTimeout : requestAnimationFrame)(() => {
    announced = false;
    const news = changed;
    changed = new Set();
    for (const listener of listeners) listener(news);
  });
}

/** @param {Link} next */
function to(next) {
  if (next.state === 'offline') next.since = link.state === 'offline' ? link.since : Date.now();
  link = next;
  tell();
}

/** @param {Order} order */
function keep(order) {
  orders.set(order.orderId, order);
  changed.add(order.orderId);
}

function trim() {
  if (orders.size <= ORDERS_MAX) return;
  for (const { orderId } of newest().slice(ORDERS_MAX)) orders.delete(orderId);
}

function rest() {
  clearTimeout(timer);
  source?.close();
  source = undefined;
}

function open() {
  rest();
  if (paused || document.hidden) return;
  const stream = (source = new EventSource(`/api/feed${cursor && `?after=${cursor}`}`));
  timer = setTimeout(poll, HELLO_WITHIN_MS);
  let greeted = false;
  stream.addEventListener('hello', (event) => {
    clearTimeout(timer);
    greeted = true;
    failures = 0;
    const { cursor: from, resumed } = JSON.parse(event.data);
    cursor = from;
    to({ state: 'live' });
    if (!resumed || !loaded) void load();
  });
  stream.addEventListener('order', (event) => {
    cursor = event.lastEventId;
    const order = JSON.parse(event.data);
    streamed.add(order.orderId);
    keep(order);
    trim();
    if (link.problem) to({ state: 'live' });
    tell();
  });
  stream.addEventListener('reset', () => void load());
  stream.addEventListener('trouble', (event) => to({ state: 'live', problem: new Problem(JSON.parse(event.data).title, { detail: 'What you see is what was known before.' }) }));
  stream.onerror = () => {
    if (stream !== source) return;
    if (stream.readyState === EventSource.CLOSED) return void poll();
    // The browser tries again each second, and fails as often: the time runs from the first failure.
    if (greeted) timer = setTimeout(poll, BACK_WITHIN_MS);
    greeted = false;
  };
}

/** Asks once, and says what that means for the connection. */
async function poll() {
  rest();
  streamAgainAt ||= Date.now() + STREAM_AGAIN_MS;
  try {
    if (!loaded) await read();
    const answer = await get(`/api/feed${cursor && `?after=${cursor}`}`, { etag });
    etag = answer.etag;
    quiet += 1;
    if (answer.body) {
      const { cursor: at, reset, orders: news } = answer.body;
      if (at !== cursor || news.length > 0) quiet = 0;
      cursor = at;
      news.forEach(keep);
      if (reset) await read();
    }
    failures = 0;
    to({ state: 'polling' });
    schedule(Math.min(POLL_MAX_MS, POLL_MIN_MS * (1 + quiet / 2)));
  } catch (error) {
    failures += 1;
    const wait = Math.min(BACKOFF_MAX_MS, 500 * 2 ** failures) * (0.75 + Math.random() / 2);
    to({ state: 'offline', problem: asProblem(error), retryAt: Date.now() + wait });
    schedule(wait);
  }
}

/** @param {number} ms */
function schedule(ms) {
  clearTimeout(timer);
  if (paused || document.hidden) return;
  const again = link.state === 'polling' && Date.now() >= streamAgainAt;
  if (again) streamAgainAt = 0;
  timer = setTimeout(again ? open : poll, ms);
}

/** Reads the list anew; page after page, so that no one answer holds up the page. */
async function read() {
  let after = '';
  let seen = 0;
  streamed = new Set();
  do {
    const { body } = await get(`/api/orders?limit=${PAGE_ORDERS}${after && `&after=${after}`}`);
    for (const order of body.orders) {
      seen += 1;
      if (!streamed.has(order.orderId)) keep(order);
    }
    loaded = true;
    tell();
    after = body.next ?? '';
  } while (after && seen < ORDERS_MAX);
  trim();
}

/** Reads the list while a stream is open, until that has worked. */
async function load() {
  isStale = true;
  if (loading) return;
  loading = true;
  while (isStale) {
    isStale = false;
    try {
      await read();
      if (link.problem && link.state === 'live') to({ state: 'live' });
    } catch (error) {
      // Polling reads it by itself.
      if (link.state !== 'live') break;
      to({ ...link, problem: asProblem(error) });
      isStale = true;
      await new Promise((resolve) => setTimeout(resolve, POLL_MAX_MS));
    }
  }
  loading = false;
}

document.addEventListener('visibilitychange', () => (document.hidden ? rest() : open()));
addEventListener('online', () => !paused && open());
addEventListener('offline', () => !paused && void poll());
open();
