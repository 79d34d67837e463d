// Where panels are: Grafana's grid of 24 columns, or one column on a narrow screen.
const COLUMNS = 24;
const ROW = 30;
const GAP = 8;
const NARROW = 769;
export const MARGIN = 16;

// Panels and rows with their places in pixels, and the height of all. Closed rows give their panels if `open`.
export function laidOut(dashboard, pageWidth, open) {
  const items = compacted(shown(dashboard, open));
  const width = pageWidth - 2 * MARGIN;
  const places = pageWidth < NARROW ? inOneColumn(items, width) : inGrid(items, width);
  return { places, height: Math.max(...places.map(({ top, height }) => top + height)) };
}

function shown({ panels }, open) {
  const opened = (row) => [{ ...row, collapsed: false }, ...row.panels];
  return panels.flatMap((panel) => (open && panel.collapsed ? opened(panel) : [panel]));
}

// Panels move up as far as those above let them, as a closed row leaves no gap.
function compacted(panels) {
  const placed = [];
  for (const panel of panels) {
    const { x, w, h } = panel.gridPos;
    const above = placed.filter((other) => x < other.x + other.w && other.x < x + w);
    placed.push({ panel, x, w, h, y: Math.max(0, ...above.map((other) => other.y + other.h)) });
  }
  return placed;
}

function inGrid(items, width) {
  const column = (width - GAP * (COLUMNS - 1)) / COLUMNS;
  return items.map(({ panel, x, y, w, h }) => ({
    panel,
    left: Math.round(x * (column + GAP)),
    top: y * (ROW + GAP),
    width: Math.round(w * column + (w - 1) * GAP),
    height: h * ROW + (h - 1) * GAP,
  }));
}

function inOneColumn(items, width) {
  let top = 0;
  return items.map(({ panel, h }) => {
    const place = { panel, left: 0, top, width, height: h * ROW + (h - 1) * GAP };
    top += place.height + GAP;
    return place;
  });
}
