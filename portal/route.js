/**
 * @file Where one is: the path names the page, the query its state. Links are plain links; a click on
 * one of ours changes the page without loading it anew.
 */

/** Called when the place has changed; whether to another page. @type {(isOther: boolean) => void} */
let onmove = () => {};

/** @param {(isOther: boolean) => void} listener @param {(path: string) => boolean} isPage */
export function start(listener, isPage) {
  onmove = listener;
  let path = location.pathname;
  addEventListener('popstate', () => {
    onmove(path !== location.pathname);
    path = location.pathname;
  });
  addEventListener('click', (event) => {
    const anchor = event.target instanceof Element ? event.target.closest('a') : null;
    if (!anchor || anchor.target || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (anchor.origin !== location.origin || anchor.hash || !isPage(anchor.pathname)) return;
    event.preventDefault();
    go(anchor.pathname + anchor.search);
    path = location.pathname;
  });
}

/** @param {string} path */
export function go(path) {
  history.pushState(null, '', path);
  scrollTo(0, 0);
  onmove(true);
}

/** @param {string} name */
export const query = (name) => new URLSearchParams(location.search).get(name) ?? '';

/** Notes the state of a page in its address. @param {Record<string, string>} changes */
export function setQuery(changes) {
  const parameters = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) value ? parameters.set(name, value) : parameters.delete(name);
  history.replaceState(null, '', `${location.pathname}${parameters.size ? `?${parameters}` : ''}`);
}
