// A stand-in for the state timeline, which is no part of Grafana's libraries: a bar for each series, coloured by value.
import { FieldType, formattedValueToString, getFieldDisplayName } from '@grafana/data';
import { measureText, VizLegend } from '@grafana/ui';

const LEGEND = 28;
const TIMES = 20;
const FONT = 12;

export function StateTimelinePanel({ panel, frames, shown, theme, width, height }) {
  const series = frames.flatMap((frame) => seriesOf(frame, frames));
  const left = 16 + Math.max(...series.map(({ name }) => measureText(name, FONT).width));
  const row = (height - LEGEND - TIMES) / series.length;
  const plot = { left, width: width - left, row, thick: row * (panel.options.rowHeight ?? 0.9) };
  const text = { fill: theme.colors.text.primary, fontSize: FONT };
  return (
    <>
      <svg width={width} height={height - LEGEND}>
        {series.map((one, at) => (
          <Bar key={one.name} {...one} top={at * row} plot={plot} shown={shown} text={text} />
        ))}
        <Times shown={shown} plot={plot} top={height - LEGEND - 6} text={text} />
      </svg>
      <VizLegend placement="bottom" displayMode="list" items={legendOf(series)} />
    </>
  );
}

function seriesOf(frame, frames) {
  const [time] = frame.fields;
  const numbers = frame.fields.filter(({ type }) => type === FieldType.number);
  return numbers.map((field) => ({ field, time, name: getFieldDisplayName(field, frame, frames) }));
}

function Bar({ field, time, name, top, plot, shown, text }) {
  const at = (moment) => plot.left + ((moment - shown.from) / (shown.to - shown.from)) * plot.width;
  return (
    <>
      <text x={plot.left - 8} y={top + plot.row / 2 + 4} textAnchor="end" {...text}>
        {name}
      </text>
      {time.values.slice(0, -1).map((moment, index) => {
        const width = at(time.values[index + 1]) - at(moment);
        const { color } = field.display(field.values[index]);
        const place = { x: at(moment), y: top + (plot.row - plot.thick) / 2, width, height: plot.thick };
        return <rect key={moment} {...place} fill={color} fillOpacity={0.8} shapeRendering="crispEdges" />;
      })}
    </>
  );
}

function Times({ shown, plot, top, text }) {
  const count = Math.max(2, Math.floor(plot.width / 110));
  return Array.from({ length: count }, (_, tick) => {
    const share = (tick + 0.5) / count;
    const moment = new Date(shown.from + share * (shown.to - shown.from)).toISOString().slice(11, 16);
    return (
      <text key={tick} x={plot.left + share * plot.width} y={top} textAnchor="middle" {...text}>
        {moment}
      </text>
    );
  });
}

function legendOf(series) {
  const values = series.flatMap(({ field }) => [...new Set(field.values)].map((value) => field.display(value)));
  const colours = new Map(values.map((shown) => [formattedValueToString(shown), shown.color]));
  return [...colours].map(([label, color]) => ({ label, color, yAxis: 1 }));
}
