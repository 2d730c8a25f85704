/**
 * @file Dead letters: how many lie where and why, and what can be done about one, many or all of
 * them: replay to their own subscription, with or without the fault, or discard with a reason.
 */

import { asProblem, get, post } from './api.js';
import { attribute, button, chip, empty, fill, fillIf, h, icon, keyed, loading, relativeTime, say, sure, trouble } from './dom.js';
import { listen } from './feed.js';
import { LetterPanel } from './letter.js';
import { query, setQuery } from './route.js';
import { counted, enumerate, number, shortId } from './words.js';

/** @typedef {{ source: string, sequenceNumber: number, messageId: string, eventType: string | null, orderId: string | null, reason: string | null, description: string | null, deliveryCount: number, enqueuedAt: string | null, replays: number }} Letter */

/** Counts are asked for this often; a change of an order asks sooner. */
const ASK_EVERY_MS = 4_000;

/** Letters of one request: small enough that progress is seen, large enough to be quick. */
const CHUNK = 25;

/** Letters in the page, and of one look for all of them. */
const PAGE = 200;

/** Letters of one action: as many as the API looks at in one source. */
const LETTERS_MAX = 4_000;

/** What did not end well, or has not ended. @type {Record<string, string>} */
const ENDS = { begun: 'pending', failed: 'warning', refused: 'warning', unknown: 'unknown' };

/** What the API puts before the words of a problem. */
const PROBLEM = /^\/problems\/[a-z-]+: /;

/** A way on, to one order or to all. @param {string | undefined} orderId @param {string} word */
const lookAt = (orderId, word) => h('p', {}, h('a', { class: 'more', href: orderId ? `/order?id=${orderId}` : '/orders' }, word));

export class LettersPage extends HTMLElement {
  #stop = () => {};
  #timer = 0;
  #soon = 0;
  /** @type {Letter[]} */
  #letters = [];
  /** @type {Set<number>} */
  #chosen = new Set();
  /** How many there are, also beyond the page. */
  #total = '';
  #more = false;
  /** Sources that cannot be looked at, and why. @type {string[][]} */
  #unknown = [];
  #sources = h('div', { class: 'sources', role: 'group', 'aria-label': 'Sources' }, loading('Counting dead letters', 2));
  #groups = h('div', { class: 'filters', role: 'group', 'aria-label': 'Reasons' });
  #list = h('tbody');
  #all = h('input', { type: 'checkbox', 'aria-label': 'Choose all', onchange: () => this.#choose(this.#all.checked ? this.#letters : []) });
  #table = h('table', { class: 'letters', hidden: true }, h('caption', { class: 'unseen' }, 'Dead letters, oldest first'), h('thead', {}, h('tr', {}, h('th', { scope: 'col' }, this.#all), ...['Order', 'Why', 'Tries', 'Came'].map((name) => h('th', { scope: 'col' }, name)))), this.#list);
  #notice = h('div');
  #reason = h('input', { id: 'why', maxlength: 500, placeholder: 'e.g. gateway mended', autocomplete: 'off' });
  #reasonError = h('p', { class: 'error', id: 'why-error', role: 'alert' });
  #withoutFault = h('input', { type: 'checkbox', id: 'without', checked: true });
  #replay = button('Replay', () => this.#confirm('replay'), { class: 'primary' }, 'retry');
  #discard = button('Discard', () => this.#confirm('discard'), { class: 'quiet danger' }, 'failed');
  #bar = h('form', { class: 'panel bulk', hidden: true, onsubmit: (/** @type {Event} */ event) => event.preventDefault() }, h('p', {}, h('label', { for: 'why' }, 'Why, for the audit trail'), this.#reason, this.#reasonError), h('p', { class: 'check' }, this.#withoutFault, h('label', { for: 'without' }, 'Take the failure away that the order asks for')), h('div', { class: 'actions' }, this.#replay, this.#discard));
  #progress = h('div', { role: 'status' });
  #panel = new LetterPanel();
  #audit = h('section', { class: 'panel', hidden: true });

  connectedCallback() {
    fill(
      this,
      h('h1', {}, 'Dead letters'),
      h('p', { class: 'lede' }, 'Messages that were given up on for a technical reason. A replay goes to their own subscription alone: the services that are done do not see it.'),
      this.#sources,
      this.#groups,
      this.#progress,
      this.#notice,
      h('div', { class: 'columns letters-columns' }, h('div', {}, this.#bar, this.#table), this.#panel),
      this.#audit,
    );
    this.#reason.setAttribute('aria-describedby', 'why-error');
    this.#panel.onact = (orderId) => {
      fill(this.#progress, h('section', { class: 'panel notice' }, h('h2', {}, 'Replayed as edited'), lookAt(orderId, 'Watch it finish')));
      this.refresh();
    };
    this.#stop = listen((changed) => {
      // A message reaches its queue a moment after the order says so.
      if (changed.size > 0) this.#soon ||= window.setTimeout(() => ((this.#soon = 0), this.refresh()), 600);
    });
    this.refresh();
  }

  disconnectedCallback() {
    this.#stop();
    clearTimeout(this.#timer);
    clearTimeout(this.#soon);
  }

  refresh() {
    clearTimeout(this.#timer);
    void this.#read().finally(() => this.isConnected && (this.#timer = window.setTimeout(() => this.refresh(), ASK_EVERY_MS)));
  }

  async #read() {
    try {
      const { body } = await get('/api/ops/dead-letters');
      const filled = body.sources.find((/** @type {any} */ { count }) => count > 0)?.source ?? '';
      const source = query('source') || filled;
      this.#drawSources(body.sources, source);
      // What was known of it stays while it cannot be looked at.
      if (this.#unknown.some(([name]) => name === source)) this.#drawNotice(source);
      else if (source) await this.#readLetters(source);
      else this.#take([], false, source);
      const number = Number(query('number'));
      await this.#panel.show(source, query('number') && this.#letters.some(({ sequenceNumber }) => sequenceNumber === number) ? number : undefined);
      await this.#readAudit();
    } catch (error) {
      const problem = asProblem(error);
      fillIf(this.#notice, problem.title, () => [trouble(problem, 'The dead letters cannot be read.')]);
      if (this.#sources.querySelector('.loading')) fill(this.#sources);
    }
  }

  /** @param {any[]} sources @param {string} chosen */
  #drawSources(sources, chosen) {
    fillIf(this.#sources, [sources.map(({ source, count, oldestAt, unavailable }) => [source, count, oldestAt, unavailable]), chosen], () =>
      sources.map(({ source, count, atLeast, oldestAt, unavailable }) =>
        h('button', { type: 'button', class: 'panel source', 'aria-pressed': source === chosen, 'data-tone': unavailable ? 'busy' : count ? 'bad' : 'good', onclick: () => this.#go({ source, reason: '', number: '', order: '' }) }, h('strong', { class: 'hero figure' }, unavailable ? '?' : `${number(count)}${atLeast ? '+' : ''}`), h('span', {}, source), h('span', { class: 'muted' }, unavailable ? 'cannot be counted now' : (oldestAt ? h('span', {}, 'oldest ', relativeTime(oldestAt)) : 'nothing waits'))),
      ),
    );
    const { count = 0, atLeast, groups = [] } = sources.find(({ source }) => source === chosen) ?? {};
    const group = groups.find((/** @type {any} */ { reason }) => reason === query('reason'));
    this.#unknown = sources.filter(({ unavailable }) => unavailable).map(({ source, unavailable }) => [source, unavailable.replace(PROBLEM, '')]);
    this.#total = `${number(group?.count ?? count)}${atLeast ? '+' : ''}`;
    fillIf(this.#groups, [groups, query('reason')], () =>
      groups.length ? [{ reason: '', count: '' }, ...groups].map(({ reason, count }) => h('button', { type: 'button', 'aria-pressed': (reason ?? '') === query('reason'), onclick: () => this.#go({ reason: reason ?? '', number: '' }) }, reason || 'Every reason', h('span', { class: 'figure' }, ` ${count}`))) : [],
    );
  }

  /** @param {Record<string, string>} changes */
  #go(changes) {
    this.#chosen.clear();
    setQuery(changes);
    this.refresh();
  }

  /** @param {string} source @param {string} [after] */
  #page(source, after = '') {
    const reason = query('reason');
    return get(`/api/ops/dead-letters/${source}?limit=${PAGE}${reason && `&reason=${encodeURIComponent(reason)}`}${after && `&after=${after}`}`);
  }

  /** The numbers of all that the filter lets through, page after page. @param {string} source */
  async #every(source) {
    /** @type {number[]} */
    const numbers = [];
    let after = '';
    do {
      const { body } = await this.#page(source, after);
      numbers.push(...body.deadLetters.map((/** @type {Letter} */ { sequenceNumber }) => sequenceNumber));
      after = body.next ?? '';
    } while (after && numbers.length < LETTERS_MAX);
    return numbers;
  }

  /** @param {string} source */
  async #readLetters(source) {
    const { body } = await this.#page(source);
    const order = query('order');
    this.#take(order ? body.deadLetters.filter((/** @type {Letter} */ { orderId }) => orderId === order) : body.deadLetters, Boolean(body.next), source);
    const [only] = this.#letters;
    if (order && only && !query('number')) setQuery({ number: String(only.sequenceNumber) });
  }

  /** @param {Letter[]} letters @param {boolean} more @param {string} source */
  #take(letters, more, source) {
    this.#letters = letters;
    this.#more = more;
    const here = new Set(letters.map(({ sequenceNumber }) => sequenceNumber));
    for (const number of this.#chosen) if (!here.has(number)) this.#chosen.delete(number);
    keyed(this.#list, letters, ({ sequenceNumber }) => `${source}/${sequenceNumber}`, (letter) => this.#row(letter), (row, { sequenceNumber }) => {
      attribute(row, 'aria-current', String(sequenceNumber) === query('number'));
      /** @type {HTMLInputElement} */ (row.querySelector('input')).checked = this.#chosen.has(sequenceNumber);
    });
    attribute(this.#table, 'hidden', letters.length === 0);
    attribute(this.#bar, 'hidden', letters.length === 0);
    this.#drawNotice(source);
    this.#refreshBar();
  }

  /** @param {string} source */
  #drawNotice(source) {
    const { length } = this.#letters;
    const order = query('order');
    const [[, why] = []] = this.#unknown;
    fillIf(this.#notice, [length, source, order, this.#unknown], () => {
      if (why) return [h('p', { class: 'notice', 'data-tone': 'busy', role: 'status' }, icon('warning'), h('span', {}, h('strong', {}, `${enumerate(this.#unknown.map(([name = '']) => name))} cannot be looked at. `), `${why} This page goes on by itself; `, h('a', { href: '/system' }, 'look at the system'), ' for what stands still.'))];
      if (length) return [];
      if (source && order) return [empty('It is not here any more.', 'The message was replayed or discarded; the audit trail below says by whom.', h('p', {}, h('a', { class: 'more', href: `/order?id=${order}` }, 'Look at the order')))];
      return [empty('No dead letters.', 'Every message was handled. To see one, order something in the shop with billing set to “Fails every time”.', h('a', { class: 'more', href: '/' }, 'Break something'))];
    });
  }

  /** @param {Letter} letter */
  #row({ sequenceNumber, orderId, reason, description, deliveryCount, enqueuedAt, replays, messageId }) {
    const box = h('input', { type: 'checkbox', 'aria-label': `Choose ${orderId ? shortId(orderId) : sequenceNumber}`, onchange: () => ((box.checked ? this.#chosen.add(sequenceNumber) : this.#chosen.delete(sequenceNumber)), this.#refreshBar()) });
    const open = button(orderId ? shortId(orderId) : `message ${sequenceNumber}`, () => (setQuery({ number: String(sequenceNumber) }), this.refresh()), { class: 'link', title: orderId ?? messageId });
    return h('tr', {}, h('td', {}, box), h('th', { scope: 'row' }, open), h('td', {}, chip({ word: reason ?? 'no reason given', icon: 'sealed', tone: 'bad' }), h('span', { class: 'hint' }, ` ${description ?? ''}`), replays > 0 && h('span', { class: 'hint' }, ` replayed ${replays}×`)), h('td', { class: 'figure' }, deliveryCount), h('td', {}, enqueuedAt && relativeTime(enqueuedAt)));
  }

  /** @param {Letter[]} letters */
  #choose(letters) {
    this.#chosen = new Set(letters.map(({ sequenceNumber }) => sequenceNumber));
    for (const box of this.#list.querySelectorAll('input')) box.checked = letters.length > 0;
    this.#refreshBar();
  }

  /** Whether what is done is done to those beyond the page as well. */
  #isEverything() {
    return this.#more && this.#chosen.size === 0 && !query('order');
  }

  #refreshBar() {
    const many = this.#chosen.size;
    const all = many === 0 || many === this.#letters.length;
    this.#all.checked = many > 0 && all;
    this.#all.indeterminate = many > 0 && !all;
    const what = this.#isEverything() ? `all ${this.#total}` : all ? `all ${number(this.#letters.length)}${this.#more ? ' here' : ''}` : number(many);
    say(/** @type {Node} */ (this.#replay.lastChild), `Replay ${what}`);
    say(/** @type {Node} */ (this.#discard.lastChild), `Discard ${what}`);
  }

  /** @param {'replay' | 'discard'} action */
  async #confirm(action) {
    const why = this.#reason.value.trim();
    attribute(this.#reason, 'aria-invalid', !why);
    fill(this.#reasonError, !why && 'Say why: it is kept in the audit trail.');
    if (!why) return this.#reason.focus();
    const source = query('source') || this.#letters[0]?.source || '';
    const shown = this.#chosen.size ? [...this.#chosen] : this.#letters.map(({ sequenceNumber }) => sequenceNumber);
    const numbers = this.#isEverything() ? await this.#every(source).catch((error) => void fill(this.#progress, trouble(asProblem(error), 'Nothing was done.'))) : shown;
    if (!numbers) return;
    const word = action === 'replay' ? 'Replay' : 'Discard';
    const what = action === 'replay' ? `Each becomes a new message for ${source} alone${this.#withoutFault.checked ? ', without the failure that its order asks for' : ''}.` : 'They are removed for good. The orders stay as they are.';
    if (await sure(`${word} ${counted(numbers.length, 'dead letter')} of ${source}?`, what, word)) void this.#run(action, source, numbers, why);
  }

  /** @param {'replay' | 'discard'} action @param {string} source @param {number[]} numbers @param {string} reason */
  async #run(action, source, numbers, reason) {
    /** @type {Record<string, number>} */
    const counts = {};
    // Looked up before it leaves the list.
    const only = numbers.length === 1 ? this.#letters.find(({ sequenceNumber }) => sequenceNumber === numbers[0]) : undefined;
    let worked = 0;
    /** @type {any[]} */
    const bad = [];
    const draw = (/** @type {Node | false} */ more = false) =>
      fill(this.#progress, h('section', { class: 'panel notice' }, h('h2', {}, `${action === 'replay' ? 'Replayed' : 'Discarded'} ${number(worked)} of ${number(numbers.length)}`), h('progress', { max: numbers.length, value: worked, 'aria-label': 'Progress' }), h('p', {}, Object.entries(counts).map(([outcome, count]) => `${count} ${outcome}`).join(', ')), bad.length > 0 && h('ul', {}, ...bad.map(({ sequenceNumber, outcome, detail }) => h('li', {}, `${sequenceNumber}: ${outcome} ${detail ?? ''}`))), more));
    for (let at = 0; at < numbers.length; at += CHUNK) {
      const part = numbers.slice(at, at + CHUNK);
      draw();
      try {
        const { body } = await post(`/api/ops/dead-letters/${source}/${action}`, { select: { sequenceNumbers: part }, reason, ...(action === 'replay' && { withoutFault: this.#withoutFault.checked }) });
        for (const [outcome, count] of Object.entries(body.counts)) counts[outcome] = (counts[outcome] ?? 0) + Number(count);
        bad.push(...body.results.filter((/** @type {any} */ { outcome }) => !['replayed', 'finished', 'sent', 'discarded'].includes(outcome)).slice(0, 20 - bad.length));
        worked += part.length;
      } catch (error) {
        return draw(trouble(asProblem(error), 'It stopped here; what is left was not touched.'));
      } finally {
        this.refresh();
      }
    }
    draw(lookAt(only?.orderId ?? undefined, action === 'replay' ? 'Watch it finish' : 'Look at what is left'));
    this.#chosen.clear();
  }

  async #readAudit() {
    const { body } = await get('/api/ops/audit?limit=20');
    attribute(this.#audit, 'hidden', body.entries.length === 0);
    fillIf(this.#audit, body.entries, () => [
      h('h2', {}, 'Audit trail'),
      h('ol', { class: 'history', role: 'list' }, ...body.entries.map((/** @type {any} */ { at, actor, action, source, sequenceNumber, orderId, reason, outcome, detail }) => h('li', {}, icon(ENDS[outcome] ?? 'done'), h('p', {}, h('strong', {}, actor), ` ${action} ${source} ${sequenceNumber ?? ''} `, orderId && h('a', { href: `/order?id=${orderId}` }, shortId(orderId)), h('span', { class: 'muted' }, ` ${outcome === 'unknown' ? 'outcome unknown' : outcome}: ${reason}${detail ? `; ${detail}` : ''}`)), relativeTime(at)))),
    ]);
  }
}

customElements.define('letters-page', LettersPage);
