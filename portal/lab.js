/** @file The lab: failures switched on for everything ordered from here, and the experiments. */

import { asProblem, get } from './api.js';
import { attribute, button, fill, h, icon, trouble } from './dom.js';
import { EXPERIMENTS } from './experiments.js';
import { faultSelect, switchTo, switched, switchedWords } from './faults.js';
import { SERVICES, capital } from './words.js';

export class LabPage extends HTMLElement {
  #busy = false;
  #hint = h('p', { class: 'hint', role: 'status' });
  #rows = SERVICES.map((service) => {
    const select = faultSelect(service, `lab-${service}`);
    const share = h('input', { type: 'number', min: 1, max: 100, value: 100, 'aria-label': `Share of orders that ${service} fails, in percent` });
    return { service, select, share };
  });
  #results = h('div', { class: 'lab' });

  connectedCallback() {
    fill(
      this,
      h('h1', {}, 'Lab'),
      h('p', { class: 'lede' }, 'Do something bad to the running system and see what it does about it.'),
      h('section', { class: 'panel' }, h('h2', {}, 'Failures'), ...this.#rows.map(({ service, select, share }) => h('p', { class: 'pair' }, h('label', { for: `lab-${service}` }, capital(service)), h('span', { class: 'share' }, select, share, '% of orders'))), this.#hint, button('Everything works', () => this.#clear(), { class: 'quiet' })),
      h('h2', {}, 'Experiments'),
      this.#results,
    );
    for (const { service, select, share } of this.#rows) {
      const on = switched()[service];
      select.value = on?.fault ?? '';
      share.value = String(on?.share ?? 100);
    }
    this.addEventListener('input', () => this.#note());
    this.#note();
    void this.#draw();
  }

  #clear() {
    for (const { select } of this.#rows) select.value = '';
    this.#note();
  }

  #note() {
    switchTo(Object.fromEntries(this.#rows.flatMap(({ service, select, share }) => (select.value ? [[service, { fault: select.value, share: Math.min(100, Math.max(1, Number(share.value) || 100)) }]] : []))));
    const on = switchedWords();
    fill(this.#hint, on.length ? `On, for orders from the shop in this tab. ${on.join('; ')}.` : 'All services work. Choose a failure, and what is ordered in the shop asks for it.');
  }

  async #draw() {
    const local = await get('/api/ops/system').then(({ body }) => body.local, () => false);
    const products = await get('/api/products').catch(() => undefined);
    const allowed = products?.body.faultsAllowed;
    // Something of which there is plenty: running out is another experiment.
    const product = products?.body.products.reduce((/** @type {any} */ a, /** @type {any} */ b) => (b.available > a.available ? b : a));
    fill(this.#results, ...EXPERIMENTS.filter((experiment) => local || !experiment.local).map((experiment) => this.#card(experiment, product, allowed)), !local && h('p', { class: 'hint' }, `${EXPERIMENTS.filter((experiment) => experiment.local).length} more experiments stop processes or the store: they are there on a local stack.`));
  }

  /** @param {import('./experiments.js').Experiment} experiment @param {any} product @param {boolean} allowed */
  #card({ name, title, about, run }, product, allowed) {
    const said = h('p', { role: 'status', class: 'said' });
    const verdict = h('div', { 'data-verdict': name });
    const start = button('Run', () => this.#run(start, said, verdict, run, product), { class: 'quiet', 'aria-label': `Run: ${title}` }, 'resume');
    const possible = product && (allowed || !['duplicate', 'poison'].includes(name));
    attribute(start, 'disabled', !possible);
    return h('section', { class: 'panel experiment' }, h('h3', {}, title), h('p', {}, about), !possible && h('p', { class: 'hint' }, product ? 'Failures are switched off here (FAULTS_ALLOWED).' : 'Nothing can be ordered.'), start, said, verdict);
  }

  /** @param {HTMLElement} start @param {HTMLElement} said @param {HTMLElement} verdict @param {import('./experiments.js').Experiment['run']} run @param {any} product */
  async #run(start, said, verdict, run, product) {
    if (this.#busy) return void fill(said, 'Another experiment runs: wait for its verdict.');
    this.#busy = true;
    attribute(start, 'aria-disabled', true);
    fill(verdict);
    const order = (/** @type {Record<string, string>} */ faults = {}) => ({ customerId: 'c-lab', currency: product.currency, items: [{ sku: product.sku, quantity: 1 }], ...(Object.keys(faults).length > 0 && { faults }) });
    try {
      fill(said, 'Runs…');
      const [good, text] = await run((text) => fill(said, text), order);
      fill(said);
      fill(verdict, h('p', { class: 'notice', 'data-tone': good ? 'good' : 'bad' }, icon(good ? 'done' : 'failed'), h('span', {}, h('strong', {}, good ? 'Held. ' : 'Did not hold. '), text)));
    } catch (error) {
      fill(verdict, error instanceof Error && error.name === 'Error' ? h('p', { class: 'notice', 'data-tone': 'bad' }, icon('failed'), h('strong', {}, error.message)) : trouble(asProblem(error)));
    } finally {
      this.#busy = false;
      attribute(start, 'aria-disabled', null);
    }
  }
}

customElements.define('lab-page', LabPage);
