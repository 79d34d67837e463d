// The page of a dashboard: its head, its rows and its panels, each in its place.
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import '@fontsource/inter/600.css';

import { ThemeContext } from '@grafana/data';
import { GlobalStyles } from '@grafana/ui';
import { createRoot } from 'react-dom/client';

import { THEMES } from '../lib/fields.mjs';
import { MARGIN } from '../lib/layout.mjs';
import { Head, RowHead } from './head.jsx';
import { Panel } from './panel.jsx';

window.__grafana_public_path__ = '/public/';
const shown = window.shown;
const theme = THEMES[shown.theme];

function Page() {
  const background = theme.colors.background.canvas;
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ width: shown.width, padding: MARGIN, boxSizing: 'border-box', background }}>
        <Head {...shown} />
        <div style={{ position: 'relative', height: shown.height }}>
          {shown.places.map((place) => (
            <Place key={place.panel.id} {...place} />
          ))}
        </div>
      </div>
    </ThemeContext.Provider>
  );
}

function Place({ panel, left, top, width, height, ...data }) {
  const style = { position: 'absolute', left, top, width, height };
  return (
    <div style={style} data-panel={panel.title}>
      {panel.type === 'row' ? <RowHead {...panel} /> : <Panel {...{ panel, width, height, shown, theme }} {...data} />}
    </div>
  );
}

// What failed and what is empty, once all is drawn: fonts and icons come later than the page.
async function drawn() {
  await document.fonts.ready;
  await new Promise((resolve) => setTimeout(resolve, 1200));
  const titles = (selector) => [...document.querySelectorAll(selector)].map((found) => found.dataset.told);
  return { errors: titles('[data-told^="error"]'), empty: titles('[data-told^="empty"]') };
}

createRoot(document.getElementById('root')).render(<Page />);
window.drawn = drawn;
