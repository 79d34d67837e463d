// What of a panel Grafana would take without a word, and show otherwise than it is meant: whatever the answers are.
import { grafana } from '#grafana';
import { THEMES } from './fields.mjs';
import { CELLS } from './options.mjs';

const { fieldColorModeRegistry, fieldReducers, renderMarkdown } = grafana;
const GOOD = /^(up|alive|ok|yes|on|connected|succeeded|running)\b/i;
const BAD = /^(down|lost|failed|refused|off|cut off|critical|unreachable)\b/i;
const HEADINGS = ['Normal:', 'What to do:', 'Not known:'];
const SINGLE = ['stat', 'gauge', 'bargauge'];
const WITH_LEGEND = ['timeseries', 'state-timeline'];
// Of a number that is known: the last one, as the queries of these panels ask for the present.
const LAST = 'lastNotNull';

// What is wrong, one text for each.
export function misled(panel) {
  const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
  const columns = overrides.map(({ matcher, properties }) => ({ name: matcher.options, has: asObject(properties) }));
  return [
    ...ofOptions(panel, defaults),
    ...ofText(panel.description ?? ''),
    ...ofConfig('the panel', defaults),
    ...columns.flatMap(({ name, has }) => ofConfig(`"${name}"`, has)),
    ...columns.flatMap(({ name, has }) => ofColumn(panel, name, has)),
  ];
}

function asObject(properties) {
  return Object.fromEntries(properties.map(({ id, value }) => [id, value]));
}

// -- how it is drawn --------------------------------------------------------------------------------------------

function ofOptions({ type, options = {}, targets = [] }, { min, unit, custom = {} }) {
  const calcs = options.reduceOptions?.calcs ?? [LAST];
  const odd = (options.legend?.calcs ?? []).filter((id) => !fieldReducers.getIfExists(id));
  const wrong = [
    [SINGLE.includes(type) && calcs.join() !== LAST, `it shows ${calcs} instead of ${LAST}`],
    [odd.length, `the legend has calculations that Grafana does not know: ${odd}`],
    [WITH_LEGEND.includes(type) && options.legend?.showLegend !== true, 'its series have no legend'],
    [type === 'timeseries' && custom.axisSoftMin !== 0, 'its axis does not begin at 0'],
    [type === 'bargauge' && min !== 0, 'its bars do not begin at 0'],
    ...(type === 'heatmap' ? ofHeatmap(options, targets, unit) : []),
  ];
  return wrong.filter(([is]) => is).map(([, text]) => text);
}

function ofHeatmap({ calculate, yAxis }, targets, unit) {
  return [
    [calculate, 'heatmap: buckets would be made of buckets'],
    [targets.some(({ format }) => format !== 'heatmap'), 'heatmap: its query is of another format'],
    [(yAxis?.unit ?? unit) !== unit, `heatmap: the axis is in ${yAxis?.unit}, the panel in ${unit}`],
  ];
}

// -- what it says -----------------------------------------------------------------------------------------------

// A name with two underscores at both ends is bold in Markdown, unless it is quoted.
function ofText(description) {
  const bold = [...renderMarkdown(description).matchAll(/<(?:strong|em)>(.*?)<\/(?:strong|em)>/gs)];
  const odd = bold.map(([, text]) => text).filter((text) => !HEADINGS.includes(text));
  return odd.map((text) => `description: "${text}" would be bold or slanted`);
}

// -- colours ----------------------------------------------------------------------------------------------------

function ofConfig(of, { color, thresholds, mappings = [] }) {
  const steps = thresholds?.steps ?? [];
  const told = mappings.flatMap(resultsOf);
  const names = [color?.fixedColor, ...steps.map((step) => step.color), ...told.map((result) => result.color)];
  const unknown = names.filter((name) => name && !isColour(name));
  const mode = color?.mode && !fieldColorModeRegistry.getIfExists(color.mode) ? [color.mode] : [];
  return [
    ...mode.map((name) => `${of}: Grafana has no colour mode ${name}`),
    ...unknown.map((name) => `${of}: Grafana has no colour ${name}`),
    ...told.filter(contradicts).map(({ text, color: name }) => `${of}: "${text}" is ${name}`),
  ];
}

function resultsOf({ type, options }) {
  return type === 'value' ? Object.values(options) : [options.result];
}

function isColour(name) {
  const { visualization } = THEMES.dark;
  return name === 'transparent' || name.startsWith('#') || visualization.getColorByName(name) !== name;
}

function contradicts({ text = '', color: name = '' }) {
  return (GOOD.test(text) && /red/.test(name)) || (BAD.test(text) && /green/.test(name));
}

// -- columns, and single series ---------------------------------------------------------------------------------

function ofColumn(panel, name, { unit, min, max, noValue = '', mappings = [], color, ...has }) {
  const cell = has['custom.cellOptions']?.type;
  const isGauge = cell === 'gauge' && (unit ?? panel.fieldConfig.defaults?.unit) === 'percentunit';
  const isFor = (match) => mappings.some(({ type, options }) => type === 'special' && match.includes(options.match));
  const sorted = (panel.options?.sortBy ?? []).find(({ displayName }) => displayName === name);
  const steps = has.thresholds?.steps ?? [];
  const isBestLast = steps.at(-1)?.color === 'green';
  const isJudged = panel.type === 'table' && has.thresholds !== undefined;
  const wrong = [
    [cell !== undefined && !CELLS.includes(cell), `Grafana has no cells of type ${cell}`],
    [isGauge && (min !== 0 || max !== 1), 'a gauge of shares does not reach from 0 to 1'],
    [/\d/.test(noValue), `a cell without a value would be taken for a number: ${noValue}`],
    // Grafana takes a cell without a value for the lowest step.
    [isJudged && !isFor(['null', 'null+nan']), 'a cell without a value is coloured'],
    [sorted && steps.length > 1 && sorted.desc === isBestLast, 'the best of the column stand first'],
    [contradicts({ text: name, color: color?.fixedColor }), `it is ${color?.fixedColor}`],
  ];
  return wrong.filter(([is]) => is).map(([, text]) => `"${name}": ${text}`);
}
