// What a panel shows, as text, and where its links lead.
import { grafana } from '#grafana';
import { fieldConfigOf, THEMES } from './fields.mjs';

const { FieldType, formattedValueToString, getFieldDisplayName, getFieldDisplayValues } = grafana;
const ROWS = 20;
const ONE_NUMBER = ['stat', 'gauge', 'bargauge'];

// Rows of a table, or the last value of each series.
export function cellsOf(panel, frames, replace) {
  if (panel.type === 'table') {
    return frames.flatMap((frame) => rowsOf(frame).map((at) => frame.fields.map((field) => cell(field, frame, at))));
  }
  if (ONE_NUMBER.includes(panel.type)) {
    return reduced(panel, frames, replace).map(({ display }) => [
      { field: display.title, text: formattedValueToString(display), color: display.color },
    ]);
  }
  const shown = frames.filter((frame) => frame.length).slice(0, ROWS);
  return shown.flatMap((frame) => frame.fields.slice(1).map((field) => [cell(field, frame, frame.length - 1, frames)]));
}

// The numbers of a stat, gauge or bar gauge.
export function reduced(panel, frames, replace, theme = THEMES.dark) {
  return getFieldDisplayValues({
    fieldConfig: fieldConfigOf(panel),
    reduceOptions: panel.options?.reduceOptions ?? { calcs: ['lastNotNull'], values: false },
    replaceVariables: replace,
    theme,
    data: frames,
    sparkline: panel.type === 'stat' && panel.options?.graphMode !== 'none',
    timeZone: 'utc',
  });
}

export function linksOf(panel, frames) {
  return frames.flatMap((frame) =>
    frame.fields
      .filter(({ config, type }) => config.links?.length && (panel.type === 'table' || type !== FieldType.time))
      .flatMap((field) => {
        const rows = panel.type === 'table' ? rowsOf(frame) : [frame.length - 1].filter((at) => at >= 0);
        return rows.flatMap((at) => linksOfCell(field, frame, at, frames));
      }),
  );
}

function linksOfCell(field, frame, row, frames) {
  const links = field.getLinks({ valueRowIndex: row });
  return links.map(({ title, href }) => ({ field: getFieldDisplayName(field, frame, frames), row, title, url: href }));
}

function rowsOf({ length }) {
  return Array.from({ length: Math.min(length, ROWS) }, (_, at) => at);
}

function cell(field, frame, at, frames) {
  const shown = field.display(field.values[at]);
  return { field: getFieldDisplayName(field, frame, frames), text: formattedValueToString(shown), color: shown.color };
}
