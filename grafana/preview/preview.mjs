// Draws dashboards, with data of a Prometheus, into pictures. See README.md.
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { withBrowser } from './lib/browser.mjs';
import { selectedIn, unknownIn } from './lib/dashboard.mjs';
import { laidOut } from './lib/layout.mjs';
import { answersTo } from './lib/queries.mjs';
import { grafana } from '#grafana';

const OPTIONS = {
  prometheus: { type: 'string', default: 'http://127.0.0.1:9090' },
  dashboards: { type: 'string', default: '../dashboards' },
  out: { type: 'string', default: 'out' },
  only: { type: 'string', multiple: true, default: [] },
  width: { type: 'string', multiple: true, default: ['1440'] },
  theme: { type: 'string', multiple: true, default: ['dark'] },
  from: { type: 'string' },
  to: { type: 'string', default: 'now' },
  var: { type: 'string', multiple: true, default: [] },
  open: { type: 'boolean', default: false },
  cut: { type: 'string', default: '0' },
};

async function main() {
  const { values: options } = parseArgs({ options: OPTIONS });
  const files = readdirSync(options.dashboards).filter((name) => name.endsWith('.json')).sort();
  const all = files.map((name) => JSON.parse(readFileSync(join(options.dashboards, name), 'utf8')));
  const unknown = unknownIn(variablesOf(options.var), all);
  if (unknown.length) {
    console.error(`--var: no dashboard has a variable ${unknown.join(', ')}`);
    process.exitCode = 2;
    return;
  }
  mkdirSync(options.out, { recursive: true });
  const wanted = all.filter(({ uid }) => !options.only.length || options.only.includes(uid));
  let failed = 0;
  await withBrowser(async (browser) => {
    for (const dashboard of wanted) {
      for (const width of options.width.map(Number)) {
        failed += await drawn(browser, dashboard, width, options);
      }
    }
  });
  process.exitCode = failed || !wanted.length ? 1 : 0;
}

// Draws one dashboard in all themes; gives the number of panels that failed.
async function drawn(browser, dashboard, width, options) {
  const shown = await withData(dashboard, width, options);
  let failed = 0;
  for (const theme of options.theme) {
    const file = join(options.out, `${dashboard.uid}-${width}-${theme}.png`);
    const { errors, empty } = await browser.picture({ ...shown, theme, cut: Number(options.cut) }, file);
    errors.forEach((error) => console.error(`${dashboard.uid}: ${error}`));
    console.log(`${file}: ${errors.length} panels failed, ${empty.length} without data`);
    empty.forEach((told) => console.log(`  ${told}`));
    failed += errors.length;
  }
  return failed;
}

async function withData(dashboard, width, options) {
  const [from, to] = [options.from ?? dashboard.time.from, options.to].map(timeOf);
  const selected = selectedIn(dashboard, variablesOf(options.var));
  const context = { prometheus: options.prometheus, dashboard, selected, from, to };
  const { places, height } = laidOut(dashboard, width, options.open);
  for (const place of places.filter(({ panel }) => panel.type !== 'row')) {
    place.answers = await answersTo(place.panel, place.width, context).catch((error) => {
      place.error = error.message;
      return {};
    });
  }
  const { title, description, templating, links = [] } = dashboard;
  return { title, description, variables: templating.list, links, selected, from, to, places, width, height };
}

// `--var system=arq --var system=celery`
function variablesOf(given) {
  const values = {};
  for (const [name, value] of given.map((text) => text.split(/=(.*)/s))) {
    values[name] = [...(values[name] ?? []), value];
  }
  return values;
}

function timeOf(text) {
  const time = /^\d+$/.test(text) ? Number(text) : grafana.dateMath.toDateTime(text, {})?.valueOf();
  if (!Number.isFinite(time)) {
    throw new Error(`${text} is no time: milliseconds, or now-1h`);
  }
  return time;
}

await main();
