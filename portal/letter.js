/** @file One dead letter: its order, why it is there, what it says, and a replay of it, as it is or edited. */

import { asProblem, get, post } from './api.js';
import { button, copyButton, curl, empty, fill, h, icon, relativeTime, trouble } from './dom.js';
import { OrderHull } from './hull.js';
import { shortId, verdict } from './words.js';

export class LetterPanel extends HTMLElement {
  /** Called when the letter was replayed as edited, with its order's id. @type {(orderId: string | undefined) => void} */
  onact = () => {};
  #shown = '';

  /** Reads a letter, unless it is shown already: somebody may be editing it. @param {string} source @param {number} [number] */
  async show(source, number) {
    const key = `${source}/${number}`;
    if (key === this.#shown) return;
    this.#shown = key;
    if (number === undefined) return fill(this);
    const path = `/api/ops/dead-letters/${source}`;
    try {
      const { body } = await get(`${path}/${number}`);
      if (this.#shown === key) this.#draw(path, body);
    } catch (error) {
      const problem = asProblem(error);
      fill(this, problem.status === 404 ? empty('This one is not here any more.', 'It was replayed or discarded; the audit trail says by whom.') : trouble(problem, 'The dead letter cannot be read.'));
    }
  }

  /** @param {string} path @param {any} letter */
  #draw(path, letter) {
    const { sequenceNumber, order, body, bodyEncoding, reason, description, properties, unreadable } = letter;
    const text = bodyEncoding === 'json' ? JSON.stringify(body, null, 2) : String(body);
    const edit = h('textarea', { rows: 14, spellcheck: 'false', 'aria-label': 'Edited event' });
    edit.value = text;
    const why = h('input', { id: 'letter-why', maxlength: 500, value: 'edited in the portal' });
    const said = h('div');
    const replay = async () => {
      try {
        const edited = JSON.parse(edit.value);
        await post(`${path}/replay`, { select: { sequenceNumbers: [sequenceNumber] }, reason: why.value, body: edited });
        // It is said beside the list: this panel goes with its letter.
        this.onact(order?.orderId);
      } catch (error) {
        fill(said, error instanceof SyntaxError ? h('p', { class: 'error', role: 'alert' }, icon('warning'), ` This is no JSON: ${error.message}`) : trouble(asProblem(error)));
      }
    };
    const hull = new OrderHull();
    if (order) hull.order = order;
    fill(
      this,
      h(
        'section',
        { class: 'panel', 'aria-label': `Dead letter ${sequenceNumber}` },
        h('h2', {}, order ? h('a', { href: `/order?id=${order.orderId}` }, `Order ${shortId(order.orderId)}`) : `Message ${sequenceNumber}`),
        h('p', {}, h('strong', {}, reason ?? 'No reason given'), description && `: ${description}`),
        unreadable && h('p', { class: 'error' }, icon('warning'), ` Its consumer cannot read it: ${unreadable}`),
        order && hull,
        order && h('p', { class: 'verdict' }, verdict(order)),
        h('p', { class: 'muted' }, `Tried ${letter.deliveryCount}×, replayed ${letter.replays} of ${letter.replaysMax} times, came `, letter.enqueuedAt && relativeTime(letter.enqueuedAt)),
        h('h3', {}, 'Body'),
        h('pre', { tabindex: '0' }, text),
        h('details', {}, h('summary', {}, 'Properties'), h('dl', { class: 'facts' }, ...Object.entries({ messageId: letter.messageId, subject: letter.subject, correlationId: letter.correlationId, contentType: letter.contentType, ...properties }).flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value ?? '–'))]))),
        bodyEncoding === 'json' && h('details', {}, h('summary', {}, 'Edit and replay'), edit, h('label', { for: 'letter-why' }, 'Why'), why, h('p', {}, button('Replay as edited', replay, { class: 'quiet' }, 'retry')), said),
        h('div', { class: 'actions' }, copyButton('Copy body', () => text), copyButton('Copy replay as curl', () => curl('POST', `${path}/replay`, { select: { sequenceNumbers: [sequenceNumber] }, reason: 'mended', withoutFault: true }))),
      ),
    );
  }
}

customElements.define('letter-panel', LetterPanel);
