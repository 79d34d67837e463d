// @grafana/data in Node. It looks for a browser while it loads, and its ES modules are written for bundlers only.
import { createRequire } from 'node:module';

import { JSDOM } from 'jsdom';

const { window } = new JSDOM('', { url: 'http://localhost/' });
window.matchMedia = () => ({ matches: false, addEventListener() {}, removeEventListener() {} });

const NEEDED = ['window', 'document', 'navigator', 'localStorage', 'matchMedia', 'DOMParser', 'HTMLElement', 'Element'];
for (const name of [...NEEDED, 'Node', 'MutationObserver', 'getComputedStyle']) {
  // Node has a navigator of its own, which cannot be assigned to.
  Object.defineProperty(globalThis, name, { value: window[name], configurable: true, writable: true });
}

export const grafana = createRequire(import.meta.url)('@grafana/data');
