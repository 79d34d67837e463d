// Properties that fields can have, by the ids that overrides name: those of every panel, and those of each type
// ("custom.width"). Grafana registers them in its core and in its panels, not in its libraries.
import { grafana } from '#grafana';

const { FieldConfigOptionsRegistry, FieldType } = grafana;
const NUMBERS = ['min', 'max', 'decimals'];
const TEXTS = ['unit', 'noValue'];
const OTHERS = ['fieldMinMax', 'color', 'links', 'actions', 'mappings', 'thresholds', 'filterable'];

const AXIS = [
  'axisPlacement', 'axisLabel', 'axisColorMode', 'axisWidth', 'axisSoftMin', 'axisSoftMax', 'axisGridShow',
  'axisCenteredZero', 'axisBorderShow', 'scaleDistribution',
];
const LINES = [
  'drawStyle', 'gradientMode', 'showPoints', 'pointSize', 'lineWidth', 'lineInterpolation', 'lineStyle',
  'fillOpacity', 'fillBelowTo', 'barAlignment', 'barWidthFactor', 'stacking', 'thresholdsStyle', 'spanNulls',
  'insertNulls', 'transform', 'hideFrom',
];
// What `custom.cellOptions` can say, since Grafana 10.1.
export const CELLS = ['auto', 'color-text', 'color-background', 'gauge', 'sparkline', 'json-view', 'image'];
export const CUSTOM = {
  timeseries: [...AXIS, ...LINES],
  'state-timeline': ['lineWidth', 'fillOpacity', 'spanNulls', 'insertNulls', 'hideFrom', ...AXIS],
  'status-history': ['lineWidth', 'fillOpacity', 'hideFrom'],
  table: ['width', 'minWidth', 'align', 'cellOptions', 'inspect', 'hidden', 'filterable'],
  heatmap: ['hideFrom', 'scaleDistribution'],
  barchart: [...AXIS, 'lineWidth', 'fillOpacity', 'gradientMode', 'hideFrom', 'thresholdsStyle'],
  histogram: ['lineWidth', 'fillOpacity', 'gradientMode', 'hideFrom', 'stacking'],
  stat: [],
  gauge: [],
  bargauge: [],
  text: [],
};

// The properties that a panel of a type can have.
export function registry(type) {
  const own = CUSTOM[type].map((path) => item(path, grafana.identityOverrideProcessor, { isCustom: true }));
  return new FieldConfigOptionsRegistry(() => [
    item('displayName', grafana.displayNameOverrideProcessor, { settings: { expandTemplateVars: true } }),
    ...TEXTS.map((path) => item(path, grafana.stringOverrideProcessor)),
    ...NUMBERS.map((path) => item(path, grafana.numberOverrideProcessor, { shouldApply: isNumber })),
    ...OTHERS.map((path) => item(path, grafana.identityOverrideProcessor)),
    ...own,
  ]);
}

function item(path, process, more = {}) {
  const id = more.isCustom ? `custom.${path}` : path;
  return { id, path, name: path, process, shouldApply: () => true, settings: {}, ...more };
}

function isNumber(field) {
  return field.type === FieldType.number;
}
