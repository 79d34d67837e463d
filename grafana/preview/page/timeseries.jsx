// Lines, as in Grafana's time series panel.
import { dateTime, FieldType } from '@grafana/data';
import { TimeSeries } from '@grafana/ui';

export const LineDefaults = {
  drawStyle: 'line',
  lineInterpolation: 'linear',
  barAlignment: 0,
  lineWidth: 1,
  fillOpacity: 0,
  gradientMode: 'none',
  showPoints: 'auto',
  pointSize: 5,
  spanNulls: false,
  insertNulls: false,
  stacking: { mode: 'none', group: 'A' },
  hideFrom: { tooltip: false, viz: false, legend: false },
  axisPlacement: 'auto',
  axisColorMode: 'text',
  axisGridShow: true,
  axisBorderShow: false,
  axisCenteredZero: false,
  scaleDistribution: { type: 'linear' },
  thresholdsStyle: { mode: 'off' },
};

export function TimeSeriesPanel({ panel, frames, shown, theme, width, height }) {
  const [from, to] = [shown.from, shown.to].map((time) => dateTime(time));
  const timeRange = { from, to, raw: { from, to } };
  return (
    <TimeSeries
      frames={graphable(frames)}
      structureRev={1}
      timeZone={['utc']}
      legend={panel.options.legend}
      options={panel.options}
      {...{ timeRange, theme, width, height }}
    />
  );
}

// Numbers that are none are gaps.
function graphable(frames) {
  const finite = (value) => (Number.isFinite(value) ? value : null);
  const drawable = ({ type, values, ...field }) => ({
    ...field,
    type,
    values: type === FieldType.number ? values.map(finite) : values,
  });
  return frames.filter(({ length }) => length).map((frame) => ({ ...frame, fields: frame.fields.map(drawable) }));
}
