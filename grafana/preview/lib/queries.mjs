// Asking Prometheus as Grafana's data source does: intervals by the width of a panel, ranges in whole steps.
import { grafana } from '#grafana';
import { ALL } from './variables.mjs';

const { calculateInterval, secondsToHms } = grafana.rangeUtil;
const VARIABLE = /\$\{(\w+)(?::\w+)?\}|\$(\w+)/g;
export const SCRAPES_MS = 15_000;

// The "data" of each query of a panel by refId, or the error of the first that fails.
export async function answersTo(panel, widthInPixels, context) {
  const answers = {};
  for (const target of panel.targets ?? []) {
    answers[target.refId] = await answerTo(target, widthInPixels, context);
  }
  return answers;
}

async function answerTo(target, width, { prometheus, dashboard, selected, from, to }) {
  const range = { from: { valueOf: () => from }, to: { valueOf: () => to } };
  const { intervalMs } = calculateInterval(range, Math.round(width), `${SCRAPES_MS}ms`);
  const query = put(target.expr, { ...valuesOf(dashboard, selected), ...builtIn(intervalMs, to - from) });
  const step = intervalMs / 1000;
  const [first, last] = [from, to].map((time) => Math.floor(time / intervalMs) * step);
  return target.instant
    ? ask(prometheus, 'query', { query, time: to / 1000 })
    : ask(prometheus, 'query_range', { query, start: first, end: last, step });
}

function builtIn(intervalMs, rangeMs) {
  return {
    __interval: secondsToHms(intervalMs / 1000),
    __interval_ms: String(intervalMs),
    __rate_interval: `${Math.max(4 * SCRAPES_MS, intervalMs + SCRAPES_MS) / 1000}s`,
    __range: `${Math.round(rangeMs / 1000)}s`,
    __range_s: String(Math.round(rangeMs / 1000)),
  };
}

// Values as they stand in queries: several are a regular expression.
function valuesOf(dashboard, selected) {
  const variables = dashboard.templating.list.map(({ name, allValue }) => {
    const values = selected[name] ?? [];
    return [name, values[0] === ALL ? allValue ?? '.*' : asExpression(values)];
  });
  return Object.fromEntries(variables);
}

function asExpression(values) {
  const escaped = values.map((value) => value.replace(/[\\^$*+?.()|[\]{}]/g, '\\\\$&').replace(/"/g, '\\"'));
  return escaped.length > 1 ? `(${escaped.join('|')})` : escaped[0] ?? '';
}

function put(text, values) {
  return text.replace(VARIABLE, (found, braced, plain) => {
    const value = values[braced ?? plain];
    if (value === undefined) {
      throw new Error(`no value for ${found}`);
    }
    return value;
  });
}

async function ask(prometheus, path, parameters) {
  const response = await fetch(`${prometheus.replace(/\/$/, '')}/api/v1/${path}`, {
    method: 'POST',
    body: new URLSearchParams(parameters),
  });
  const answer = await response.json();
  if (answer.status !== 'success') {
    throw new Error(`${answer.errorType}: ${answer.error} in ${parameters.query}`);
  }
  return answer.data;
}
