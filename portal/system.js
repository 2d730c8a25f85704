/**
 * @file The system: a map with what waits where and for how long, charts of what goes through, and,
 * on a desk, the processes with their switches.
 */

import { asProblem, get, post } from './api.js';
import { chart } from './chart.js';
import { attribute, button, chip, empty, fill, fillIf, h, icon, loading, relativeTime, sure, trouble } from './dom.js';
import { listen, orders } from './feed.js';
import { duration, isClosed, number, tookOf } from './words.js';

const ASK_EVERY_MS = 1_000;

/** Seconds that the charts show. */
const SPAN = 120;

/** How long a pause from this page lasts. */
const PAUSE_SECONDS = 30;

/** Which app reads what, in the order of an order's way. */
const READERS = [['inventory-sub', 'inventory'], ['billing-sub', 'billing'], ['notification-sub', 'notification']];

/** Ends of orders by second, from the moment that the portal was opened; kept from page to page. @type {Map<string, { at: number, took: number }>} */
const ends = new Map();
/** @type {Map<string, number>} */
const begun = new Map();

listen((changed) => {
  for (const id of changed) {
    const order = orders.get(id);
    if (!order) continue;
    const created = Date.parse(order.createdAt);
    begun.set(id, created);
    if (isClosed(order) && !ends.has(id)) ends.set(id, { at: created + tookOf(order), took: tookOf(order) });
  }
  const from = Date.now() - 2_000 * SPAN;
  for (const [id, at] of begun) if (at < from && ends.has(id)) begun.delete(id);
  for (const [id, { at }] of ends) if (at < from) ends.delete(id);
});

/** @type {number[]} */
let backlog = [];

export class SystemPage extends HTMLElement {
  #timer = 0;
  #map = h('div', { class: 'map', role: 'group', 'aria-label': 'Map' }, loading('Looking at the system', 3));
  #charts = ['Accepted and closed', 'Commit to last service', 'Backlog'].map(() => h('figure', { class: 'panel' }));
  #processes = h('section', { class: 'panel', hidden: true });
  #notice = h('div');
  /** What became of a switch: it stays until the next one. */
  #refused = h('div');

  connectedCallback() {
    fill(this, h('h1', {}, 'System'), h('p', { class: 'lede' }, 'What waits where, and since when. Each service has a queue of its own, so that one that stands still holds up nobody else.'), this.#notice, this.#map, h('div', { class: 'charts' }, ...this.#charts), this.#refused, this.#processes);
    void this.#read();
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
  }

  async #read() {
    try {
      const { body: system } = await get('/api/ops/system');
      const { body } = await get('/api/ops/dead-letters');
      const processes = system.local ? (await get('/api/ops/local/processes').catch(() => undefined))?.body.processes : undefined;
      backlog = [...backlog, system.orders.open ?? 0].slice(-SPAN);
      this.#drawMap(system, body.sources, processes ?? []);
      this.#drawProcesses(processes);
      fill(this.#notice);
    } catch (error) {
      const problem = asProblem(error);
      fillIf(this.#notice, problem.title, () => [trouble(problem, 'The system cannot be looked at.')]);
    }
    this.#drawCharts();
    if (this.isConnected) this.#timer = window.setTimeout(() => this.#read(), ASK_EVERY_MS);
  }

  /** @param {any} system @param {any[]} letters @param {any[]} processes */
  #drawMap({ subscriptions, queues, outbox, topic }, letters, processes) {
    fillIf(this.#map, [subscriptions, queues, outbox, letters, processes], () => {
      const place = (/** @type {string} */ name) => [...subscriptions, ...queues].find((found) => found.name === name) ?? { name };
      const dead = (/** @type {string} */ source) => letters.find((found) => found.source === source)?.count ?? 0;
      const queue = (/** @type {any} */ { name, waiting = 0, atLeast, scheduled = 0, oldestAt, unavailable }, /** @type {string} */ source = name) =>
        h('div', { class: 'node queue', 'data-tone': unavailable ? 'bad' : waiting ? 'busy' : 'good' }, h('strong', {}, name), unavailable ? h('span', {}, icon('warning'), ` ${unavailable}`) : h('span', {}, h('span', { class: 'figure' }, `${number(waiting)}${atLeast ? '+' : ''} waiting`), oldestAt && h('span', {}, ', oldest ', relativeTime(oldestAt))), scheduled > 0 && h('span', { class: 'hint' }, `${scheduled} come back later`), dead(source) > 0 && h('a', { href: `/dead-letters?source=${source}` }, icon('sealed'), `${number(dead(source))} dead-lettered`));
      const stateIn = (/** @type {string} */ name) => {
        const process = processes.find((found) => found.name === name);
        return process && process.state !== 'running' && chip(stateOf(process));
      };
      const app = (/** @type {string} */ name) => {
        const process = processes.find((found) => found.name === name);
        return h('div', { class: 'node app' }, h('strong', {}, name), process ? chip(stateOf(process)) : h('span', { class: 'hint' }, 'Function App'), process?.restarts + process?.handlerRestarts > 0 && h('span', { class: 'hint' }, `started again ${process.restarts + process.handlerRestarts}×`));
      };
      const edge = () => h('span', { class: 'edge', 'aria-hidden': 'true' });
      const lane = (/** @type {string[]} */ [name = '', reader = '']) => h('div', { class: 'flow' }, edge(), queue(place(name)), edge(), app(reader), ...(reader === 'billing' ? [edge(), queue(place('payments'), 'payments-poison'), edge(), app('payments')] : []));
      return [h('div', { class: 'flow' }, app('order-api'), edge(), queue({ ...outbox, name: 'outbox' }), edge(), h('div', { class: 'node queue' }, h('strong', {}, topic), stateIn('bus'), h('span', { class: 'hint' }, 'topic, to each subscription'))), h('div', { class: 'lanes' }, ...READERS.map(lane))];
    });
  }

  #drawCharts() {
    const now = Math.floor(Date.now() / 1000);
    const seconds = Array.from({ length: SPAN }, (_, at) => now - SPAN + at);
    const per = (/** @type {number[]} */ moments) => {
      /** @type {Map<number, number>} */
      const counts = new Map();
      for (const at of moments) counts.set(Math.floor(at / 1000), (counts.get(Math.floor(at / 1000)) ?? 0) + 1);
      return seconds.map((second) => counts.get(second) ?? 0);
    };
    const byEnd = [...ends.values()].sort((a, b) => a.at - b.at);
    // Of the ten seconds up to each; both edges only move on.
    let [from, to] = [0, 0];
    const lately = seconds.map((second) => {
      while (byEnd[to] && byEnd[to].at <= 1_000 * (second + 1)) to += 1;
      while (from < to && byEnd[from].at <= 1_000 * (second - 9)) from += 1;
      return byEnd.slice(from, to).map(({ took }) => took).sort((a, b) => a - b);
    });
    const share = (/** @type {number} */ of) => lately.map((took) => took[Math.floor((took.length - 1) * of)] ?? 0);
    const [rates, times, open] = /** @type {[Element, Element, Element]} */ (this.#charts);
    chart(rates, 'Orders a second', [per([...begun.values()]), per([...ends.values()].map(({ at }) => at))], number, ['accepted', 'closed']);
    chart(times, 'From commit to the last service', [share(0.5), share(0.95)], (ms) => (ms ? duration(ms) : '–'), ['p50', 'p95']);
    chart(open, 'Backlog', [backlog], number, ['orders open']);
  }

  /** @param {any[] | undefined} processes */
  #drawProcesses(processes) {
    attribute(this.#processes, 'hidden', !processes);
    if (!processes) return;
    const act = (/** @type {string} */ name, /** @type {string} */ verb, /** @type {unknown} */ body) => async () => {
      if (verb === 'kill' && !(await sure(`Kill ${name}?`, 'It ends at once, whatever it is doing. The stack starts it again, and what it had in hand is delivered anew.', 'Kill'))) return;
      try {
        await post(`/api/ops/local/processes/${name}/${verb}`, body);
        fill(this.#refused);
      } catch (error) {
        fill(this.#refused, trouble(asProblem(error), `${name}: the switch did not move.`));
      }
    };
    fillIf(this.#processes, processes, () => [
      h('h2', {}, 'Processes'),
      processes.length === 0 ? empty('No process is known.', 'Was the stack just started?') : '',
      h('div', { class: 'wide', tabindex: '0', role: 'region', 'aria-label': 'Processes' }, h('table', {}, h('thead', {}, h('tr', {}, ...['Process', 'State', 'Started again', 'Pid', 'Switches'].map((name) => h('th', { scope: 'col' }, name)))), h('tbody', {}, ...processes.map((/** @type {any} */ process) => {
        const { name, kind, pid, handlerPid, restarts, handlerRestarts, lastWords, state } = process;
        const control = (/** @type {string} */ word, /** @type {string} */ verb, /** @type {unknown} */ body) => button(word, act(name, verb, body), { class: 'quiet', 'aria-label': `${word} ${name}` });
        return h('tr', {}, h('th', { scope: 'row' }, name), h('td', {}, chip(stateOf(process))), h('td', { class: 'figure' }, restarts + handlerRestarts, lastWords && h('details', {}, h('summary', {}, 'last words'), h('pre', { tabindex: '0' }, lastWords))), h('td', { class: 'figure' }, kind === 'host' ? `${pid}, handler ${handlerPid ?? 'none'}` : pid), h('td', {}, h('div', { class: 'actions' }, kind === 'host' ? control('Kill handler', 'kill', { what: 'handler' }) : control('Kill', 'kill', {}), state === 'paused' ? control('Resume', 'resume', {}) : control(`Pause ${PAUSE_SECONDS} s`, 'pause', { seconds: PAUSE_SECONDS }), h('a', { href: `/logs?app=${name}` }, 'Logs'))));
      })))),
    ]);
  }
}

/** @param {{ state: string }} process */
const stateOf = ({ state }) => ({ running: { word: 'Running', icon: 'done', tone: 'good' }, paused: { word: 'Paused', icon: 'pause', tone: 'busy' }, restarting: { word: 'Starting again', icon: 'retry', tone: 'bad' } })[state] ?? { word: state, icon: 'unknown', tone: 'idle' };

customElements.define('system-page', SystemPage);
