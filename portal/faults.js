/**
 * @file Failures on purpose: which there are, what each does, and those that the lab has switched on
 * for every order from this browser. The server has the last word on all of it.
 */

import { h } from './dom.js';
import { SERVICES, capital } from './words.js';

/** @typedef {import('./api.js').Service} Service */
/** @typedef {Partial<Record<Service, { fault: string, share: number }>>} Switched */

/** @type {Record<string, [string, string]>} */
export const FAULTS = {
  fail: ['Fails every time', 'Every attempt fails until its message is dead-lettered. The others carry on.'],
  flaky: ['Fails twice', 'Two attempts find a dependency away and come back after a back-off.'],
  decline: ['Card is declined', 'The bank says no, and what was reserved is released.'],
  late: ['Bank answers late', 'The bank takes the money, but answers too late. It is asked again and charges once.'],
  lost: ['Bank answer is lost', 'The bank takes the money, but its answer is lost. It is asked again and charges once.'],
};

/** A select with the failures of a service; the bank is billing's alone. @param {Service} service @param {string} id */
export const faultSelect = (service, id) =>
  h(
    'select',
    { id, name: service },
    h('option', { value: '' }, 'Works'),
    ...Object.entries(FAULTS)
      .slice(0, service === 'billing' ? undefined : 2)
      .map(([value, [word]]) => h('option', { value }, word)),
  );

const KEY = 'bulkhead.faults';

/** @returns {Switched} */
export function switched() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? '{}');
  } catch {
    return {};
  }
}

/** @param {Switched} faults */
export const switchTo = (faults) => sessionStorage.setItem(KEY, JSON.stringify(faults));

/** The failures of one order: those chosen for it, else those switched on, by chance. @param {Record<string, string>} chosen */
export function faultsFor(chosen) {
  const faults = { ...chosen };
  for (const service of SERVICES) {
    const on = switched()[service];
    if (!faults[service] && on && Math.random() * 100 < on.share) faults[service] = on.fault;
  }
  return faults;
}

/** What is switched on, in words. */
export const switchedWords = () => Object.entries(switched()).map(([service, { fault, share }]) => `${capital(service)}: ${(FAULTS[fault]?.[0] ?? fault).toLowerCase()} (${share} %)`);
