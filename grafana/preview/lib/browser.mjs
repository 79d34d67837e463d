// The page of the preview in a headless Chromium, bundled, and served from files without a server.
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
const UI = dirname(createRequire(import.meta.url).resolve('@grafana/ui/package.json'));
const ORIGIN = 'http://preview.invalid';
const PAGE = `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/main.css">
<style>body { margin: 0 }</style><div id="root"></div><script src="/main.js"></script>`;

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--hide-scrollbars'];

// Calls `use` with a browser that makes pictures; closes it at the end.
export async function withBrowser(use) {
  const files = await bundled();
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
  try {
    await use({ picture: (shown, file) => picture(browser, files, shown, file) });
  } finally {
    await browser.close();
  }
}

// Grafana's modules import the default of this one as bundlers used to give it: not the object that it is in.
const UNWRAPPED = {
  name: 'unwrapped',
  setup(building) {
    const filter = /^react-custom-scrollbars-2$/;
    building.onResolve({ filter }, ({ path, kind, resolveDir }) =>
      kind === 'import-statement' ? { path, namespace: 'unwrapped', pluginData: resolveDir } : undefined,
    );
    building.onLoad({ filter, namespace: 'unwrapped' }, ({ path, pluginData }) => ({
      contents: `module.exports = require('${path}').default`,
      resolveDir: pluginData,
    }));
  },
};

// The page's files by name.
async function bundled() {
  const { outputFiles } = await build({
    entryPoints: [join(HERE, 'page', 'main.jsx')],
    outdir: HERE,
    write: false,
    bundle: true,
    minify: true,
    platform: 'browser',
    format: 'iife',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
    loader: { '.woff2': 'dataurl', '.woff': 'empty', '.svg': 'dataurl', '.ttf': 'empty' },
    plugins: [UNWRAPPED],
    logLevel: 'error',
  });
  return Object.fromEntries(outputFiles.map(({ path, contents }) => [basename(path), Buffer.from(contents)]));
}

// Draws `shown` into a file; gives what failed, and which panels are empty.
async function picture(browser, files, shown, file) {
  const page = await browser.newPage({ viewport: { width: shown.width, height: 900 }, timezoneId: 'UTC' });
  const thrown = [];
  page.on('pageerror', (error) => thrown.push(error.message));
  try {
    await page.route(`${ORIGIN}/**`, (route) => serve(route, files));
    await page.addInitScript((data) => (window.shown = data), shown);
    await page.goto(`${ORIGIN}/`);
    await page.waitForFunction(() => window.drawn || document.body.dataset.failed, undefined, { timeout: 60_000 });
    const found = await page.evaluate(() => window.drawn());
    return { ...found, errors: [...found.errors, ...thrown], files: await taken(page, shown, file) };
  } finally {
    await page.close();
  }
}

// One picture of all, or several of at most `cut` pixels.
async function taken(page, { width, cut }, file) {
  if (!cut) {
    await page.screenshot({ path: file, fullPage: true });
    return [file];
  }
  const files = [];
  const total = await page.evaluate(() => document.documentElement.scrollHeight);
  for (let y = 0; y < total; y += cut) {
    const path = file.replace(/\.png$/, `-${files.length + 1}.png`);
    await page.screenshot({ path, fullPage: true, clip: { x: 0, y, width, height: Math.min(cut, total - y) } });
    files.push(path);
  }
  return files;
}

function serve(route, files) {
  const { pathname } = new URL(route.request().url());
  const name = basename(pathname);
  if (pathname === '/') {
    return route.fulfill({ contentType: 'text/html', body: PAGE });
  }
  if (files[name]) {
    return route.fulfill({ contentType: name.endsWith('.css') ? 'text/css' : 'text/javascript', body: files[name] });
  }
  const path = join(UI, 'dist', pathname);
  return route.fulfill({ path }).catch(() => route.fulfill({ status: 404 }));
}
