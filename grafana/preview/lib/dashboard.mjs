// Reading a dashboard.

// All panels but rows, those of closed rows too.
export function panelsOf(dashboard) {
  return dashboard.panels.flatMap((panel) => (panel.type === 'row' ? panel.panels ?? [] : [panel]));
}

// Variables that have no value given are All, or what the dashboard has.
export function selectedIn(dashboard, given) {
  const named = dashboard.templating.list.map((variable) => [variable.name, ofVariable(variable)]);
  const values = Object.entries(given).map(([name, value]) => [name, [value].flat()]);
  return Object.fromEntries([...named, ...values]);
}

function ofVariable({ type, includeAll, current }) {
  if (type === 'datasource') {
    return [[current?.value ?? []].flat()[0] || 'prometheus'];
  }
  return includeAll ? ['$__all'] : [current?.value ?? []].flat();
}

// The names of variables that none of the dashboards has.
export function unknownIn(given, dashboards) {
  const known = new Set(dashboards.flatMap(({ templating }) => templating.list.map(({ name }) => name)));
  return Object.keys(given).filter((name) => !known.has(name));
}
