// Reads which dashboards to check and what Prometheus answered to their queries, writes what Grafana makes of it:
// the field names, cells and links of each panel, and what is wrong with it. See README.md for the form of both.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

import { checked } from './lib/checked.mjs';
import { panelsOf, selectedIn } from './lib/dashboard.mjs';

async function main() {
  const asked = JSON.parse(await text(process.stdin));
  const found = {};
  for (const file of readdirSync(asked.directory).filter((name) => name.endsWith('.json')).sort()) {
    const dashboard = JSON.parse(readFileSync(join(asked.directory, file), 'utf8'));
    found[dashboard.uid] = await ofDashboard(dashboard, asked);
  }
  process.stdout.write(`${JSON.stringify(found)}\n`);
}

async function ofDashboard(dashboard, { from, to, variables = {}, answers = {} }) {
  const context = { selected: selectedIn(dashboard, variables), from, to };
  const panels = {};
  for (const panel of panelsOf(dashboard)) {
    panels[panel.id] = await checked(panel, answers[dashboard.uid]?.[panel.id] ?? {}, context);
  }
  return panels;
}

await main();
