/**
 * @file Keeps a view of the newest orders current and tells the page when it changes. Knows how
 * changes travel (today: conditional polling) and nothing of how they are drawn; a push transport
 * replaces the inside of {@link follow} and nothing else.
 */

import { Problem, asProblem, getAttention, getOrder, listOrders } from './api.js';
import { isClosed, isMoving } from './words.js';

/** @typedef {import('./api.js').Order} Order */
/** @typedef {import('./api.js').OrderPage} OrderPage */
/** @typedef {import('./api.js').Attention} Attention */
/**
 * @typedef {{ state: 'connecting' }
 *   | { state: 'polling', everyMs: number }
 *   | { state: 'paused' }
 *   | { state: 'offline', since: number, retryAt: number, problem: Problem }} Link
 */
/** @typedef {{ state: 'none' | 'idle' | 'loading' | 'full' } | { state: 'failed', problem: Problem }} Older */
/**
 * @typedef {object} View
 * @property {Order[] | undefined} orders newest first; undefined until the first answer. An order
 *   that did not change is the same object as in the view before.
 * @property {Older} older whether there is more behind the last order
 * @property {Link} link
 * @property {Attention | undefined} attention what needs a person, as last heard
 */
/**
 * @typedef {object} Feed
 * @property {(orderId: string) => void} watch asks for this order at once and keeps it current, listed or not
 * @property {() => void} more loads the next older page
 * @property {() => void} pause
 * @property {() => void} resume also: try again now
 */

/** A change is seen within half a second, and an open tab costs the store 2.5 point reads a second. */
const FAST_MS = 400;

/** Nothing is moving: often enough to notice orders that come from elsewhere. */
const SLOW_MS = 4_000;

/** An order that waits for a service that is down must not keep every open tab at the fast pace. */
const QUIET_AFTER_MS = 30_000;

/** What needs a person has been late for minutes already, and asking costs the store two queries. */
const ATTENTION_EVERY_MS = 30_000;

/** The first and the longest wait after an error; doubled in between, with jitter. */
const BACKOFF_MIN_MS = 1_000;
const BACKOFF_MAX_MS = 15_000;

/** Orders of one page: two screens. */
const PAGE_ORDERS = 20;

/** Orders that "load more" gathers; nobody scrolls further, and each moving one costs reads. */
const LOADED_ORDERS_MAX = 500;

/** Orders kept in the page. A tab left open during a burst must not grow with it. */
const SHOWN_ORDERS_MAX = 1_000;

/** Orders outside the newest page that are asked for one by one in a round. */
const SINGLE_READS_MAX = 10;

/** Orders submitted here that are kept current until they settle. */
const WATCHED_MAX = 20;

/** A watched order that is still not found after this was never there, or its store is gone. */
const WATCHED_MISSING_MS = 15_000;

/**
 * @param {(view: View) => void} onChange called once at the start and after every round
 * @returns {Feed}
 */
export function follow(onChange) {
  /** @type {Map<string, Order>} */
  const known = new Map();
  /** @type {Set<string>} */
  let newest = new Set();
  /** @type {Map<string, number>} order id to the time at which the watch began */
  const watched = new Map();
  /** @type {Map<string, string | null>} */
  const etags = new Map();
  /** @type {string | null} */
  let pageEtag = null;
  /** @type {string | null} */
  let next = null;
  /** @type {Older} */
  let older = { state: 'none' };
  /** @type {Link} */
  let link = { state: 'connecting' };
  /** @type {Order[] | undefined} */
  let orders;
  /** @type {Attention | undefined} */
  let attention;
  let attentionAskedAt = 0;
  let generation = 0;
  let failures = 0;
  let lastChange = Date.now();
  let paused = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {AbortController | undefined} */
  let round;

  const publish = () => onChange({ orders, older, link, attention });

  /** Takes an order in; keeps the old object when nothing changed. @param {Order} order */
  function keep({ history: _history, messages: _messages, ...order }) {
    const before = known.get(order.orderId);
    if (before && JSON.stringify(before) === JSON.stringify(order)) return;
    known.set(order.orderId, order);
    lastChange = Date.now();
  }

  /** @param {OrderPage} page */
  function takeNewest(page) {
    const ids = page.orders.map((order) => order.orderId);
    // Without an order in common there may be a gap that nobody could see: start over from here.
    if (!ids.some((id) => newest.has(id)) || known.size > SHOWN_ORDERS_MAX) {
      known.clear();
      etags.clear();
      generation += 1;
      next = page.next;
      older = { state: next ? 'idle' : 'none' };
    }
    newest = new Set(ids);
    pageEtag = page.etag;
    page.orders.forEach(keep);
  }

  /** Orders that the newest page does not cover but that a person may be looking at; moving ones first, sealed ones may be replayed. */
  function strays() {
    const open = (orders ?? []).filter((order) => known.has(order.orderId) && (!isClosed(order) || isMoving(order)));
    const ids = new Set([...watched.keys(), ...[...open.filter(isMoving), ...open].map((order) => order.orderId)]);
    return [...ids].filter((id) => !newest.has(id)).slice(0, SINGLE_READS_MAX);
  }

  /** @param {AbortSignal} signal */
  const readStrays = (signal) =>
    Promise.all(
      strays().map(async (id) => {
        try {
          const answer = await getOrder(id, { etag: known.has(id) ? etags.get(id) : null, signal });
          if (!answer) return;
          etags.set(id, answer.etag);
          keep(answer.order);
        } catch (error) {
          // One order that cannot be read must not stop the others from being shown.
          if (!(error instanceof Problem) || error.status === 0) throw error;
          if (error.status !== 404 || Date.now() - (watched.get(id) ?? 0) < WATCHED_MISSING_MS) return;
          known.delete(id);
          watched.delete(id);
        }
      }),
    );

  const pace = () => {
    const moving = watched.size > 0 || [...known.values()].some(isMoving);
    return moving && Date.now() - lastChange < QUIET_AFTER_MS ? FAST_MS : SLOW_MS;
  };

  async function askAttention() {
    if (Date.now() - attentionAskedAt < ATTENTION_EVERY_MS) return;
    attentionAskedAt = Date.now();
    try {
      attention = await getAttention();
      publish();
    } catch {
      // Whether the server can be reached is what the rounds say; what was heard last still stands.
    }
  }

  async function ask() {
    const controller = (round = new AbortController());
    const { signal } = controller;
    try {
      const page = await listOrders({ limit: PAGE_ORDERS, etag: pageEtag, signal });
      if (signal.aborted) return;
      if (page) takeNewest(page);
      await readStrays(signal);
      if (signal.aborted) return;
      failures = 0;
      for (const [id, order] of known) if (!isMoving(order)) watched.delete(id);
      orders = [...known.values()].sort(newestFirst);
      link = { state: 'polling', everyMs: pace() };
      publish();
      void askAttention();
      schedule(link.everyMs);
    } catch (error) {
      if (signal.aborted) return;
      const problem = asProblem(error);
      const backoff = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** failures) * (0.75 + Math.random() / 2);
      const waitMs = Math.max(backoff, Math.min(problem.retryAfterMs ?? 0, BACKOFF_MAX_MS));
      failures += 1;
      const since = link.state === 'offline' ? link.since : Date.now();
      link = { state: 'offline', since, retryAt: Date.now() + waitMs, problem };
      publish();
      schedule(waitMs);
    }
  }

  /** @param {number} ms */
  function schedule(ms) {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(ask, ms);
  }

  function rest() {
    clearTimeout(timer);
    round?.abort();
  }

  function askNow() {
    rest();
    schedule(0);
  }

  function resume() {
    paused = false;
    if (link.state === 'paused') link = { state: 'connecting' };
    publish();
    askNow();
  }

  document.addEventListener('visibilitychange', () => (document.hidden ? rest() : askNow()));
  addEventListener('online', askNow);
  publish();
  askNow();

  return {
    watch(orderId) {
      watched.set(orderId, Date.now());
      const [oldest] = watched.keys();
      if (watched.size > WATCHED_MAX && oldest) watched.delete(oldest);
      lastChange = Date.now();
      resume();
    },
    async more() {
      if (!next || older.state === 'loading') return;
      const asked = generation;
      older = { state: 'loading' };
      publish();
      try {
        const page = await listOrders({ limit: PAGE_ORDERS, after: next });
        if (asked !== generation) return;
        page?.orders.forEach(keep);
        next = page?.next ?? null;
        older = { state: !next ? 'none' : known.size >= LOADED_ORDERS_MAX ? 'full' : 'idle' };
      } catch (error) {
        if (asked !== generation) return;
        older = { state: 'failed', problem: asProblem(error) };
      }
      orders = [...known.values()].sort(newestFirst);
      publish();
    },
    pause() {
      paused = true;
      rest();
      link = { state: 'paused' };
      publish();
    },
    resume,
  };
}

/** @param {Order} a @param {Order} b */
const newestFirst = (a, b) => Date.parse(b.createdAt) - Date.parse(a.createdAt) || (a.orderId < b.orderId ? 1 : -1);
