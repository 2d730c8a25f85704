/**
 * @file Whether what the page shows is current: the small sign in the header. Knows the states of
 * the feed, not how they come about.
 */

import { attribute, fill, h, icon, say } from './dom.js';

/** @typedef {import('./feed.js').Link} Link */

/** How often the countdown to the next attempt is written anew. */
const COUNTDOWN_MS = 250;

/** @type {Record<Link['state'], { icon: string, word: string }>} */
const WORDS = {
  connecting: { icon: 'polling', word: 'Connecting' },
  polling: { icon: 'polling', word: 'Polling' },
  paused: { icon: 'pause', word: 'Paused' },
  offline: { icon: 'offline', word: 'Offline' },
};

export class LinkState extends HTMLElement {
  /** What the buttons do; set by the page. */
  onretry = () => {};
  /** @type {Link} */
  #link = { state: 'connecting' };
  #text = h('span');
  #retry = h('button', { type: 'button', class: 'quiet', onclick: () => this.onretry() }, 'Retry now');
  #timer = 0;

  /** @param {Link} link */
  set link(link) {
    const entered = link.state !== this.dataset.state;
    this.#link = link;
    if (entered) {
      attribute(this, 'data-state', link.state);
      fill(this, icon(WORDS[link.state].icon), this.#text, link.state === 'offline' && this.#retry);
      clearInterval(this.#timer);
      if (link.state === 'offline') this.#timer = window.setInterval(() => this.#write(), COUNTDOWN_MS);
    }
    this.#write();
  }

  #write() {
    const link = this.#link;
    say(this.#text, link.state === 'offline' ? `${reasonOf(link)}, ${countdown(link)}` : WORDS[link.state].word);
    attribute(this, 'title', link.state === 'polling' ? `Asking for changes every ${link.everyMs / 1000} s` : null);
  }
}

/** @param {Extract<Link, { state: 'offline' }>} link */
export const reasonOf = (link) => (link.problem.status === 0 ? 'Offline' : `Error ${link.problem.status}`);

/** @param {Extract<Link, { state: 'offline' }>} link */
function countdown(link) {
  const seconds = Math.ceil((link.retryAt - Date.now()) / 1000);
  return seconds > 0 ? `retrying in ${seconds} s` : 'retrying';
}

customElements.define('link-state', LinkState);
