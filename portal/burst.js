/**
 * @file Many orders at once: sends them a few at a time and follows all of them to their end. Used by
 * the shop and by the experiments; draws nothing.
 */

import { asProblem, submit } from './api.js';
import { listen, orders } from './feed.js';
import { overallOf } from './words.js';

/** @typedef {import('./api.js').NewOrder} NewOrder */

/** Requests in flight: what a browser opens connections for. */
const IN_FLIGHT = 6;

/** Counts are drawn this often at most. */
const DRAW_EVERY_MS = 150;

/** The most that one burst sends. */
export const BURST_MAX = 1_000;

/**
 * @param {(index: number) => NewOrder} make
 * @param {number} count
 * @param {(burst: Burst) => void} onchange
 */
export function burst(make, count, onchange) {
  const it = new Burst(count);
  let drawing = false;
  const draw = () => {
    if (drawing) return;
    drawing = true;
    setTimeout(() => {
      drawing = false;
      onchange(it);
    }, DRAW_EVERY_MS);
  };
  const stop = listen((changed) => {
    let touched = false;
    for (const id of changed) if (it.ids.has(id)) touched = it.follow(id) || touched;
    if (touched) draw();
    if (it.isOver) stop();
  });
  it.sent = (async () => {
    let next = 0;
    const began = performance.now();
    const lane = async () => {
      while (next < count && !it.stopped) {
        const order = make(next++);
        try {
          const { orderId, tookMs } = await submit(order);
          it.ids.add(orderId);
          it.tookMs.push(tookMs);
          it.follow(orderId);
        } catch (error) {
          it.refused += 1;
          it.problem = asProblem(error);
          // One that is wrong in itself is wrong a thousand times.
          if (!it.problem.isTransient) it.stopped = true;
        }
        it.sendingMs = performance.now() - began;
        draw();
      }
    };
    await Promise.all(Array.from({ length: Math.min(IN_FLIGHT, count) }, lane));
    it.isSent = true;
    draw();
    if (it.isOver) stop();
  })();
  return it;
}

/** How a burst stands. */
export class Burst {
  /** @type {Set<string>} */
  ids = new Set();
  /** @type {number[]} */
  tookMs = [];
  /** @type {Map<string, string>} id to the key of its state */
  states = new Map();
  refused = 0;
  sendingMs = 0;
  isSent = false;
  stopped = false;
  began = Date.now();
  endedAt = 0;
  /** @type {import('./api.js').Problem | undefined} */
  problem;
  /** @type {Promise<void>} */
  sent = Promise.resolve();

  /** @param {number} wanted */
  constructor(wanted) {
    this.wanted = wanted;
  }

  /** Notes where an order stands; whether that is news. @param {string} id */
  follow(id) {
    const order = orders.get(id);
    if (!order) return false;
    const { key } = overallOf(order);
    if (this.states.get(id) === key) return false;
    this.states.set(id, key);
    if (this.open === 0) this.endedAt = Date.now();
    return true;
  }

  /** @param {string} key */
  count(key) {
    let found = 0;
    for (const state of this.states.values()) if (state === key) found += 1;
    return found;
  }

  /** Accepted and not yet at rest. */
  get open() {
    return this.ids.size - this.states.size + this.count('accepted');
  }

  get isOver() {
    return this.isSent && this.open === 0;
  }

  /** Milliseconds to the 202, of this share of the orders. @param {number} share */
  quantile(share) {
    const sorted = [...this.tookMs].sort((a, b) => a - b);
    return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  }
}
