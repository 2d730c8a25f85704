/**
 * @file What happened to an order as rows with stretches of time: attempts, back-offs between them,
 * and the wait in the payments queue. Draws nothing and knows nothing of the network.
 */

import { duration, happeningOf, reason } from './words.js';

/** @typedef {import('./api.js').Order} Order */
/** @typedef {import('./api.js').HistoryEntry} HistoryEntry */
/** @typedef {{ from: number, to: number, tone: string }} Stretch milliseconds since 1970 */
/**
 * @typedef {object} Row
 * @property {number} at milliseconds since 1970
 * @property {string} who a service, or the order
 * @property {string} what
 * @property {string} icon
 * @property {string} tone
 * @property {string} note for people: why; may be empty
 * @property {number} [tookMs] how long the attempt was at work
 * @property {string} [wait] what was waited for after it, and how long if that is known
 * @property {Stretch[]} stretches
 */

/** What the server appends to the note of an attempt whose message comes back later. */
const BACK_OFF = /^(.*) \(again in (\d+) ms\)$/s;

/**
 * @param {Order} order
 * @returns {Row[]} oldest first
 */
export function timeline(order) {
  const { history = [], stage } = order;
  const { handedOverAt, updatedAt } = stage?.billing ?? {};
  if (!handedOverAt) return rows(history);
  // Whoever takes the payment from there touches the stage, and gets a line only at the end.
  const takenAt = updatedAt && updatedAt !== handedOverAt ? updatedAt : '';
  // The history has no line for it, because handing over twice is harmless and may happen often.
  const before = history.filter(({ at }) => Date.parse(at) <= Date.parse(handedOverAt));
  return rows([...before, { at: handedOverAt, service: 'billing', what: 'handed-over' }, ...history.slice(before.length)], takenAt);
}

/** @param {HistoryEntry[]} entries @param {string} [takenAt] */
const rows = (entries, takenAt) => entries.map((entry, index) => row(entry, entries.slice(index + 1), takenAt));

/**
 * @param {HistoryEntry} entry
 * @param {HistoryEntry[]} later
 * @param {string} [takenAt] when the payment was taken from its queue
 * @returns {Row}
 */
function row({ at: iso, service, what, attempt, since, note = '' }, later, takenAt = '') {
  const { word, icon, tone } = happeningOf(what);
  const at = Date.parse(iso);
  const began = Date.parse(since ?? '');
  const [, why, backOffMs] = (what === 'retry-scheduled' && BACK_OFF.exec(note)) || [];
  /** @type {Row} */
  const shown = { at, who: service ?? 'order', what: attempt ? `attempt ${attempt} ${word}` : word, icon, tone, note: why ?? (attempt && what !== 'failed' ? note : reason(note)), stretches: [] };
  if (began <= at) {
    shown.tookMs = at - began;
    shown.stretches.push({ from: began, to: at, tone });
  }
  if (what !== 'retry-scheduled' && what !== 'handed-over') return shown;
  const next = later.find((entry) => entry.service === service);
  const expected = what === 'handed-over' ? Date.parse(takenAt) : at + Number(backOffMs);
  const until = next ? Date.parse(next.since ?? next.at) : expected;
  const known = until >= at;
  if (what === 'retry-scheduled') shown.wait = known ? `back-off ${duration(until - at)}` : 'back-off';
  else shown.wait = known ? `waited there ${duration(until - at)}` : 'waits there';
  if (known) shown.stretches.push({ from: at, to: until, tone: 'wait' });
  return shown;
}
