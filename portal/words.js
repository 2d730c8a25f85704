/**
 * @file The vocabulary of the portal: what a status is called and which icon stands for it, how
 * money, times and durations are written. Knows nothing of the network and nothing of the DOM.
 */

/** @typedef {import('./api.js').Order} Order */
/** @typedef {import('./api.js').Service} Service */
/** @typedef {{ word: string, icon: string, tone: string, settled?: boolean }} Status */

const LOCALE = 'en';

/** The compartments, in the order in which they are drawn. */
export const SERVICES = /** @type {readonly Service[]} */ (['inventory', 'billing', 'notification']);

/** The compartments whose work is undone when an order cannot go on. A customer cannot be un-told. */
const UNDOABLE = ['inventory', 'billing'];

/** @param {string} word @param {string} icon @param {string} tone @param {boolean} [settled] @returns {Status} */
const state = (word, icon, tone, settled = false) => ({ word, icon, tone, settled });

/** @type {Record<string, Status>} */
const STATUSES = {
  pending: state('Pending', 'pending', 'idle'),
  processing: state('Processing', 'processing', 'busy'),
  done: state('Done', 'done', 'good', true),
  failed: state('Failed', 'failed', 'bad', true),
  'dead-lettered': state('Dead-lettered', 'sealed', 'bad', true),
  released: state('Released', 'undone', 'idle', true),
  refunded: state('Refunded', 'undone', 'idle', true),
};

/** @type {Record<string, Status>} */
const OVERALLS = {
  accepted: state('Under way', 'accepted', 'busy'),
  completed: state('Completed', 'done', 'good', true),
  failed: state('Failed', 'failed', 'bad', true),
  cancelled: state('Cancelled', 'undone', 'idle', true),
};

/** @type {Record<string, Status>} */
const HAPPENINGS = {
  accepted: state('accepted', 'accepted', 'busy'),
  'attempt-failed': state('failed, delivered again', 'retry', 'bad'),
  'retry-scheduled': state('failed, comes back after a back-off', 'retry', 'bad'),
  'dead-lettered': state('dead-lettered', 'sealed', 'bad'),
  replayed: state('replayed by an operator', 'retry', 'busy'),
  done: state('done', 'done', 'good'),
  failed: state('failed', 'failed', 'bad'),
  released: state('released', 'undone', 'idle'),
  refunded: state('refunded', 'undone', 'idle'),
  'cancel-requested': state('cancellation requested', 'undone', 'busy'),
  completed: state('completed', 'done', 'good'),
  'order-failed': state('failed and undone', 'failed', 'bad'),
  cancelled: state('cancelled and undone', 'undone', 'idle'),
};

/** A word that this page has not heard of is shown as it is: a newer server must not blank it. @param {string} raw */
const unheardOf = (raw) => state(capital(raw.replaceAll('-', ' ')), 'unknown', 'idle');

/** @param {string | undefined} raw */
export const statusOf = (raw = 'unknown') => STATUSES[raw] ?? unheardOf(raw);

/** @param {string} raw */
export const happeningOf = (raw) => HAPPENINGS[raw] ?? unheardOf(raw);

/**
 * Where a service stands; one that processes but waits to go on says for what.
 * @param {Order} order
 * @param {Service} service
 * @returns {Status}
 */
export function stateOf(order, service) {
  const status = statusOf(order.status[service]);
  const { leaseUntil, error, handedOverAt, updatedAt } = order.stage?.[service] ?? {};
  if (order.status[service] !== 'processing' || leaseUntil !== 0) return status;
  // Whoever takes the payment from its queue touches the stage.
  if (handedOverAt && handedOverAt === updatedAt) return { ...status, word: 'In queue', icon: 'pending' };
  return error ? { ...status, word: 'Will retry', icon: 'pending' } : status;
}

/** @param {Order} order */
export const sealedOf = (order) => SERVICES.filter((service) => order.status[service] === 'dead-lettered');

/**
 * The roll-up as the store has it; but an order that is being undone, or that waits for an operator,
 * does not look as if it were on its way.
 * @param {Order} order
 * @returns {Status & { key: string }}
 */
export function overallOf(order) {
  if (isUndoing(order)) return { ...state(order.cancellation ? 'Cancelling' : 'Being undone', 'undone', 'busy'), key: 'accepted' };
  if (order.overall === 'accepted' && sealedOf(order).length > 0) return { ...state('Needs attention', 'sealed', 'bad'), key: 'attention' };
  return { ...(OVERALLS[order.overall] ?? unheardOf(order.overall)), key: order.overall };
}

/** What orders can be filtered by. */
export const STATES = { accepted: 'Under way', attention: 'Needs attention', completed: 'Completed', failed: 'Failed', cancelled: 'Cancelled' };

/** @param {Order} order */
const doneOf = (order) => SERVICES.filter((service) => order.status[service] === 'done');

/** The service whose answer was no. @param {Order} order */
const refuserOf = (order) => SERVICES.find((service) => order.status[service] === 'failed');

/** @param {Order} order */
const isUnwinding = (order) => Boolean(order.cancellation) || refuserOf(order) !== undefined;

/** @param {Order} order */
const isUndoing = (order) => order.overall === 'accepted' && isUnwinding(order);

/** Whether the order has its last roll-up. @param {Order} order */
export const isClosed = (order) => OVERALLS[order.overall]?.settled === true;

/** Whether the store would take a cancellation, as far as one can see: nobody has set out to charge. @param {Order} order */
export const isCancellable = (order) => order.overall === 'accepted' && !isUnwinding(order) && (order.stage?.billing?.calls ?? 0) === 0;

/** Whether every service has come to an end, good or bad. @param {Order} order */
export const isSettled = (order) =>
  SERVICES.every((service) => {
    const raw = order.status[service] ?? '';
    if (!isUnwinding(order) || !UNDOABLE.includes(service)) return statusOf(raw).settled;
    return raw === 'released' || raw === 'refunded' || (raw === 'failed' && order.stage?.[service]?.unwound !== false);
  });

/** @param {string} text */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A business answer such as `out_of_stock`, for people. @param {string} code */
export const reason = (code) => code.replaceAll('_', ' ');

/** @param {readonly string[]} words */
export const enumerate = (words) => new Intl.ListFormat(LOCALE).format(words);

/** Makes it when it is first wanted. @template T @param {() => T} make @returns {() => T} */
const once = (make) => {
  /** @type {T | undefined} */
  let made;
  return () => (made ??= make());
};

const plain = once(() => new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 1 }));

// For the first of its kind the browser reads its tables, which takes tens of milliseconds: a task of
// its own, while the first answers are on their way.
setTimeout(plain);

/** @param {number} value */
export const number = (value) => (Number.isInteger(value) && Math.abs(value) < 1_000 ? String(value) : plain().format(value));

/** @param {number} count @param {string} singular */
export const counted = (count, singular) => `${number(count)} ${singular}${count === 1 ? '' : 's'}`;

/** @type {Map<string, Intl.NumberFormat>} */
const currencies = new Map();

/** @param {number} minor an amount in the smallest unit @param {string} currency ISO 4217 */
export function money(minor, currency) {
  try {
    const format = currencies.get(currency) ?? new Intl.NumberFormat(LOCALE, { style: 'currency', currency });
    currencies.set(currency, format);
    return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2));
  } catch {
    return `${number(minor)} ${currency} (minor units)`;
  }
}

/** Three significant digits at most: `8.4 ms`, `132 ms`, `1.32 s`, `2 min 5 s`. @param {number} ms */
export function duration(ms) {
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toPrecision(3)} s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
}

/** @param {number} at milliseconds since 1970 @param {number} now */
export function ago(at, now) {
  const seconds = Math.max(0, Math.floor((now - at) / 1000));
  if (Number.isNaN(seconds)) return 'at an unknown time';
  if (seconds < 2) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Intl.DateTimeFormat(LOCALE, { dateStyle: 'medium' }).format(at);
}

const moment = once(() => new Intl.DateTimeFormat(LOCALE, { dateStyle: 'medium', timeStyle: 'long', hour12: false }));

/** @param {number} at milliseconds since 1970 */
export const exact = (at) => (Number.isNaN(at) ? '' : moment().format(at));

/**
 * Enough of an id to tell orders apart at a glance: its end, because its beginning is the time. The
 * whole id is in the title and the details.
 * @param {string} id
 */
export const shortId = (id) => (id.length > 12 ? id.slice(-8) : id);

/**
 * What one service has to say about its trouble, or nothing.
 * @param {Order} order
 * @param {Service} service
 */
export function troubleOf(order, service) {
  const status = order.status[service];
  const { attempt = 1, error, leaseUntil = 0, outcome } = order.stage?.[service] ?? {};
  if (status === 'done' || (!error && statusOf(status).tone !== 'bad')) return '';
  const why = error ? `: ${error}` : '';
  if (status === 'dead-lettered') return `dead-lettered after ${counted(attempt, 'attempt')}${why}`;
  if (status === 'failed') return outcome ? `failed: ${reason(outcome)}` : 'failed';
  // While an attempt holds its lease, the error is that of the one before.
  return `attempt ${leaseUntil > 0 ? attempt - 1 : attempt} failed${why}`;
}

/** One sentence about where an order stands. @param {Order} order */
export function verdict(order) {
  const who = refuserOf(order);
  const why = order.cancellation ? 'Cancelled' : who && `${capital(who)} said no: ${reason(order.stage?.[who]?.outcome ?? 'no reason given')}`;
  if (why) {
    const refunded = order.status.billing === 'refunded' ? ', what was paid went back' : ', nothing is owed';
    return isUndoing(order) ? `${why}. What was done for the order is being undone.` : `${why}. Nothing is reserved${refunded}.`;
  }
  const sealed = sealedOf(order);
  const done = doneOf(order);
  const open = SERVICES.filter((service) => !statusOf(order.status[service]).settled);
  const is = (/** @type {readonly string[]} */ who) => (who.length === 1 ? 'is' : 'are');
  const replayed = SERVICES.filter((service) => order.history?.some((entry) => entry.service === service && entry.what === 'replayed'));
  if (done.length === SERVICES.length) return replayed.length > 0 ? `All three services finished, ${enumerate(replayed)} after a replay.` : 'All three services finished on their own.';
  const parts = [];
  if (sealed.length > 0) parts.push(`${enumerate(sealed)} ${is(sealed)} sealed off`);
  if (open.length > 0) parts.push(`${enumerate(open)} ${is(open)} still at work`);
  if (done.length > 0) parts.push(sealed.length > 0 ? `${enumerate(done)} carried on and finished` : `${enumerate(done)} ${is(done)} done`);
  return `${capital(parts.join('; '))}.`;
}

/** Milliseconds of work, as history tells it: what a client would have waited for, one call after the other. @param {Order} order */
export const workOf = (order) => (order.history ?? []).reduce((sum, { at, since }) => sum + (since ? Math.max(0, Date.parse(at) - Date.parse(since)) : 0), 0);

/** Milliseconds from the acceptance to the last change of a service. @param {Order} order */
export const tookOf = (order) => Math.max(0, Math.max(...SERVICES.map((service) => Date.parse(order.stage?.[service]?.updatedAt ?? '') || 0)) - Date.parse(order.createdAt));
