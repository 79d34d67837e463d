// A stand-in for the heatmap, which is no part of Grafana's libraries: the same cells, scale and axes, drawn simply.
import { formattedValueToString, getValueFormat } from '@grafana/data';
import { useEffect, useRef } from 'react';

import { parsed } from '../lib/frames.mjs';

// The ends of the scheme "Oranges", from few to many; the other way round on a dark ground.
const SCHEME = ['#fff5eb', '#fdd0a2', '#fd8d3c', '#d94801', '#7f2704'];
const LEFT = 64;
const BOTTOM = 44;

export function HeatmapPanel({ panel, frames, shown, theme, width, height }) {
  const canvas = useRef(null);
  useEffect(() => draw(canvas.current, { panel, frame: frames[0], shown, theme, width, height }), []);
  const ratio = window.devicePixelRatio;
  return <canvas ref={canvas} width={width * ratio} height={height * ratio} style={{ width, height }} />;
}

function draw(canvas, { panel, frame, shown, theme, width, height }) {
  const context = canvas.getContext('2d');
  context.scale(window.devicePixelRatio, window.devicePixelRatio);
  context.font = `12px ${theme.typography.fontFamily}`;
  const [time, ...buckets] = frame.fields;
  const plot = { left: LEFT, width: width - LEFT - 8, height: height - BOTTOM, step: stepOf(time.values) };
  const at = (moment) => plot.left + ((moment - shown.from) / (shown.to - shown.from)) * plot.width;
  const most = Math.max(...buckets.flatMap(({ values }) => values.filter(Number.isFinite)));
  drawCells(context, { time, buckets, plot, at, most, theme });
  context.fillStyle = theme.colors.text.primary;
  drawBuckets(context, buckets, plot, panel);
  drawTimes(context, shown, plot, at);
  context.fillText(`0 to ${most.toPrecision(2)} per second`, plot.left, height - 6);
}

function drawCells(context, { time, buckets, plot, at, most, theme }) {
  const row = plot.height / buckets.length;
  buckets.forEach(({ values }, bucket) => {
    values.forEach((value, moment) => {
      if (!(value > 0)) {
        return;
      }
      const left = at(time.values[moment] - plot.step);
      context.fillStyle = colour(value / most, theme.isDark);
      const top = plot.height - (bucket + 1) * row;
      context.fillRect(left, top, Math.max(1, at(time.values[moment]) - left - 1), row - 1);
    });
  });
}

function drawBuckets(context, buckets, plot, panel) {
  const format = getValueFormat(panel.options.yAxis?.unit ?? panel.fieldConfig.defaults.unit);
  const row = plot.height / buckets.length;
  const every = Math.ceil(16 / row);
  context.textAlign = 'right';
  buckets.forEach(({ name }, bucket) => {
    const bound = parsed(name);
    const text = Number.isFinite(bound) ? formattedValueToString(format(bound)) : '+Inf';
    if (bucket % every === 0) {
      context.fillText(text, plot.left - 6, plot.height - bucket * row - row / 2 + 4);
    }
  });
}

function drawTimes(context, { from, to }, plot, at) {
  context.textAlign = 'center';
  const count = Math.max(2, Math.floor(plot.width / 110));
  for (let tick = 0; tick < count; tick++) {
    const moment = from + ((tick + 0.5) / count) * (to - from);
    context.fillText(new Date(moment).toISOString().slice(11, 16), at(moment), plot.height + 16);
  }
  context.textAlign = 'left';
}

function stepOf(times) {
  return times.length > 1 ? Math.min(...times.slice(1).map((time, at) => time - times[at])) : 60_000;
}

function colour(share, isDark) {
  const step = Math.min(SCHEME.length - 1, Math.floor(share * SCHEME.length));
  return SCHEME[isDark ? SCHEME.length - 1 - step : step];
}
