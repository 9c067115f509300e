// Draws one committed dashboard with Grafana's own components, from the answers of a Prometheus.
//
// Of @grafana/ui: frames, lines, axes, legends, thresholds, units, single values, themes. Of ours: the
// heat map, the table and the layout, which @grafana/ui has no components for. What Grafana itself
// adds (transformations but for a table's columns, annotations, menus) is not drawn.
import {
  createTheme, dateTime, FieldType, formattedValueToString, getDisplayProcessor,
  getValueFormat, LoadingState, ThemeContext,
} from '@grafana/data';
import {
  BigValue, BigValueColorMode, BigValueGraphMode, GlobalStyles, PanelChrome, TimeSeries,
} from '@grafana/ui';
import React, { useEffect, useRef } from 'react';
import { createRoot } from 'react-dom/client';

import { look } from './look.js';

const ROW = 36; // pixels of one row of the grid, with the gap
const GAP = 8;
const HEAD = 44;
const COLUMNS = 24;

// ---- asking

class Prometheus {
  constructor({ url, end, span, step, interval }) {
    Object.assign(this, { url, end, span, step, interval, start: end - span });
    this.grid = Array.from({ length: Math.floor(span / step) + 1 }, (_, i) => this.start + i * step);
  }

  async ask(path, query) {
    const answer = await fetch(`${this.url}/api/v1/${path}`, {
      method: path.startsWith('label/') ? 'GET' : 'POST', body: new URLSearchParams(query),
    });
    const { status, data, error } = await answer.json();
    if (status !== 'success') throw new Error(`${error}: ${JSON.stringify(query)}`);
    return data;
  }

  async list(label, series) {
    const query = new URLSearchParams({ 'match[]': series, start: this.start, end: this.end });
    const answer = await fetch(`${this.url}/api/v1/label/${label}/values?${query}`);
    return (await answer.json()).data ?? [];
  }

  range(query) {
    return this.ask('query_range', { query, start: this.start, end: this.end, step: this.step });
  }

  now(query) {
    return this.ask('query', { query, time: this.end });
  }

  // As a range that has its last value alone.
  async last(query) {
    const { result } = await this.now(query);
    return { result: result.map(({ metric, value }) => ({ metric, values: [[this.grid.at(-1), value[1]]] })) };
  }

  async exemplars(query) {
    const found = await this.ask('query_exemplars', { query, start: this.start, end: this.end });
    return found.flatMap((series) => series.exemplars.map((e) => [e.timestamp, parseFloat(e.value)]));
  }

  // A series' values on the grid; null where there is none.
  place(values) {
    const by = new Map(values.map(([at, v]) => [Math.round((at - this.start) / this.step), parseFloat(v)]));
    return this.grid.map((_, i) => (Number.isFinite(by.get(i)) ? by.get(i) : null));
  }
}

// What Grafana puts in the place of its own variables and of the board's.
function fillIn(text, prometheus, variables) {
  const seconds = (duration) => parseFloat(duration);
  const own = {
    __rate_interval_ms: seconds(prometheus.interval) * 1000,
    __rate_interval: prometheus.interval,
    __interval: `${prometheus.step}s`,
    __range_s: prometheus.span,
    __range: `${prometheus.span}s`,
  };
  return text.replace(/\$(\w+)/g, (whole, name) => own[name] ?? variables[name] ?? whole);
}

// "All" is `allValue` where there is one, or else every value that is there.
async function choose(board, chosen, prometheus) {
  const variables = {};
  const values = {};
  for (const { name, type, query, allValue, includeAll } of board.templating.list) {
    if (type === 'textbox') {
      variables[name] = chosen[name] ?? query;
      continue;
    }
    const asked = /^label_values\((.+), (\w+)\)$/.exec(query?.query ?? '');
    if (!asked) continue;
    values[name] = await prometheus.list(asked[2], fillIn(asked[1], prometheus, variables));
    const all = includeAll ? allValue ?? values[name].join('|') : values[name][0];
    variables[name] = chosen[name] ?? all ?? '';
  }
  return { variables, values };
}

// A row that repeats stands there once for each value of its variable, with all of its panels.
function repeat(panels, values, chosen) {
  const done = [];
  let shift = 0;
  for (let at = 0; at < panels.length;) {
    const row = panels[at];
    let end = at + 1;
    while (end < panels.length && panels[end].type !== 'row') end += 1;
    const group = panels.slice(at, end);
    const height = Math.max(...group.map((p) => p.gridPos.y + p.gridPos.h)) - row.gridPos.y;
    const each = row.repeat ? (chosen[row.repeat] ?? values[row.repeat].join('|')).split('|') : [null];
    each.forEach((value, n) => {
      for (const panel of group) {
        const gridPos = { ...panel.gridPos, y: panel.gridPos.y + shift + n * height };
        done.push({ ...panel, gridPos, id: `${panel.id}-${n}`, own: value === null ? {} : { [row.repeat]: value } });
      }
    });
    shift += (each.length - 1) * height;
    at = end;
  }
  return done;
}

// ---- what a series is called, and how it looks

function nameSeries(target, labels) {
  if (target.legendFormat) return target.legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, key) => labels[key] ?? '');
  return Object.entries(labels).map(([key, value]) => `${key}="${value}"`).join(', ') || 'Value';
}

const PLAIN = {
  drawStyle: 'line', lineInterpolation: 'linear', axisPlacement: 'auto', axisColorMode: 'text',
  scaleDistribution: { type: 'linear' }, hideFrom: { tooltip: false, viz: false, legend: false },
  gradientMode: 'none', pointSize: 5, barAlignment: 0, insertNulls: false,
  stacking: { mode: 'none', group: 'A' }, thresholdsStyle: { mode: 'off' },
};

function put(config, id, value) {
  const path = id.split('.');
  const last = path.pop();
  path.reduce((inner, key) => (inner[key] ??= {}), config)[last] = value;
}

// The defaults of a panel with its overrides for a series, or a column, of this name.
function configure({ defaults, overrides }, name, refId) {
  const config = structuredClone({ color: { mode: 'palette-classic' }, ...defaults });
  config.custom = { ...structuredClone(PLAIN), ...config.custom };
  for (const { matcher, properties } of overrides ?? []) {
    const fits = { byName: name, byFrameRefID: refId }[matcher.id] === matcher.options;
    if (fits) properties.forEach(({ id, value }) => put(config, id, value));
  }
  const steps = config.thresholds?.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  if (steps) config.thresholds = { mode: 'absolute', steps };
  return config;
}

function makeFrame(panel, target, { metric, values }, index, prometheus, theme) {
  const name = nameSeries(target, metric);
  const config = { ...configure(panel.fieldConfig, name, target.refId), displayName: name };
  const time = { name: 'Time', type: FieldType.time, values: prometheus.grid.map((at) => at * 1000), config: {} };
  const value = {
    name, type: FieldType.number, values: prometheus.place(values), config, labels: metric, state: { seriesIndex: index },
  };
  for (const field of [time, value]) field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  return { refId: target.refId, name, fields: [time, value], length: prometheus.grid.length };
}

// ---- panels

async function askFor(panel, prometheus, variables, theme, rows) {
  if (panel.type === 'row' || panel.type === 'text') return {};
  if (rows[panel.title]) return { rows: rows[panel.title] };
  const filled = (panel.targets ?? []).map((t) => ({ ...t, expr: fillIn(t.expr, prometheus, { ...variables, ...panel.own }) }));
  if (panel.type === 'table') {
    const found = await Promise.all(filled.map((t) => prometheus.now(t.expr)));
    return { rows: found.flatMap(({ result }) => result.map(({ metric, value }) => ({ ...metric, Value: parseFloat(value[1]) }))) };
  }
  const answers = await Promise.all(filled.map((t) => (t.instant ? prometheus.last(t.expr) : prometheus.range(t.expr))));
  const dots = (await Promise.all(filled.filter((t) => t.exemplar).map((t) => prometheus.exemplars(t.expr)))).flat();
  if (panel.type === 'heatmap') return { buckets: answers[0].result, dots };
  const series = filled.flatMap((target, n) => answers[n].result.map((one) => [target, one]));
  return { frames: series.map(([target, one], index) => makeFrame(panel, target, one, index, prometheus, theme)), dots };
}

const hasData = ({ frames, buckets, rows }) => (frames ?? buckets ?? rows ?? [null]).length > 0;

function Empty({ panel, height }) {
  const reason = panel.fieldConfig?.defaults.noValue;
  return <div data-empty={reason ? 'said' : 'bare'} style={{ textAlign: 'center', padding: '0 12px', paddingTop: height / 2 - 20, opacity: 0.75 }}>
    {reason ?? 'No data'}
  </div>;
}

// Exemplars as Grafana shows them: a diamond at its time and value.
function Dots({ builder, dots }) {
  React.useMemo(() => {
    if (!builder || !dots.length) return;
    builder.addHook('draw', (plot) => {
      const key = Object.keys(plot.scales).find((name) => name !== 'x');
      const { min, max } = plot.scales[key];
      plot.ctx.save();
      plot.ctx.fillStyle = 'rgba(115, 160, 250, 0.8)';
      for (const [at, value] of thin(dots)) {
        const x = plot.valToPos(at * 1000, 'x', true);
        const y = plot.valToPos(Math.min(Math.max(value, min), max), key, true);
        plot.ctx.beginPath();
        plot.ctx.moveTo(x, y - 4); plot.ctx.lineTo(x + 4, y); plot.ctx.lineTo(x, y + 4); plot.ctx.lineTo(x - 4, y);
        plot.ctx.fill();
      }
      plot.ctx.restore();
    });
  }, [builder, dots]);
  return null;
}

const thin = (dots) => dots.filter((_, i) => i % Math.ceil(dots.length / 200) === 0);

function Lines({ panel, frames, dots, prometheus, width, height }) {
  const timeRange = {
    from: dateTime(prometheus.start * 1000), to: dateTime(prometheus.end * 1000), raw: { from: 'now-1h', to: 'now' },
  };
  return <TimeSeries {...{ frames, timeRange, width, height }} timeZone="utc" structureRev={1}
    legend={panel.options.legend} options={panel.options}>
    {(builder) => <Dots {...{ builder, dots }} />}
  </TimeSeries>;
}

function Single({ panel, frames, width, height, theme }) {
  const [time, field] = frames[0].fields;
  field.config.color = { mode: 'thresholds' };
  const there = field.values.filter((v) => v !== null);
  field.state.range = { min: Math.min(...there), max: Math.max(...there), delta: 0 };
  const value = getDisplayProcessor({ field, theme, timeZone: 'utc' })(there.at(-1));
  const sparkline = { x: time, y: { ...field, config: { ...field.config, custom: {} } } };
  const area = panel.options.graphMode === 'area';
  return <BigValue {...{ theme, width, height, value, sparkline }} count={1} colorMode={BigValueColorMode.Value}
    graphMode={area ? BigValueGraphMode.Area : BigValueGraphMode.None} />;
}

// Cumulative buckets as rows, the lowest at the bottom; the more in a cell, the darker.
function Heat({ panel, buckets, dots, prometheus, width, height, theme }) {
  const canvas = useRef();
  useEffect(() => {
    const pen = canvas.current.getContext('2d');
    const { grid, start, span } = prometheus;
    const bound = ({ metric }) => (metric.le === '+Inf' ? Infinity : parseFloat(metric.le));
    const rows = [...buckets].sort((a, b) => bound(a) - bound(b));
    const bounds = rows.map(bound);
    const cells = rows.map(({ values }) => prometheus.place(values).map((v) => v ?? 0));
    for (let r = cells.length - 1; r > 0; r -= 1) cells[r] = cells[r].map((v, i) => Math.max(0, v - cells[r - 1][i]));
    const most = Math.max(...cells.flat(), Number.MIN_VALUE);
    const format = getValueFormat(panel.options.yAxis?.unit);
    const [left, bottom] = [64, 22];
    const [wide, high] = [(width - left - 8) / grid.length, (height - bottom - 4) / rows.length];
    pen.font = `11px ${theme.typography.fontFamily}`;
    pen.fillStyle = theme.colors.text.secondary;
    const apart = Math.ceil(14 / high);
    rows.forEach((_, r) => {
      const text = bounds[r] === Infinity ? '+Inf' : formattedValueToString(format(bounds[r]));
      if ((rows.length - 1 - r) % apart === 0) pen.fillText(text, 4, 4 + (rows.length - r - 0.3) * high);
    });
    for (let k = 0; k < 4; k += 1) {
      const at = new Date((start + (span * k) / 4) * 1000).toISOString().slice(11, 19);
      pen.fillText(at, left + ((width - left - 8) * k) / 4, height - 6);
    }
    cells.forEach((row, r) => row.forEach((v, i) => {
      if (v <= 0) return;
      pen.globalAlpha = 0.15 + 0.85 * Math.sqrt(v / most);
      pen.fillStyle = theme.visualization.getColorByName('orange');
      pen.fillRect(left + i * wide, 4 + (rows.length - 1 - r) * high, Math.max(wide, 1), high - 1);
    }));
    pen.globalAlpha = 1;
    pen.fillStyle = 'rgba(115, 160, 250, 0.9)';
    for (const [at, value] of thin(dots)) {
      const r = bounds.findIndex((upper) => value <= upper);
      pen.fillRect(left + ((at - start) / span) * (width - left - 8) - 2, 4 + (rows.length - r - 0.5) * high - 2, 4, 4);
    }
  }, []);
  return <canvas ref={canvas} width={width} height={height} />;
}

function Table({ panel, rows, theme }) {
  const { excludeByName = {}, renameByName = {}, indexByName = {} } = panel.transformations?.find((t) => t.id === 'organize')?.options ?? {};
  const keys = [...new Set(rows.flatMap(Object.keys))].filter((key) => !excludeByName[key])
    .sort((a, b) => (indexByName[a] ?? 99) - (indexByName[b] ?? 99));
  const columns = keys.map((key) => {
    const name = renameByName[key] ?? key;
    const field = { name, type: FieldType.number, values: [], config: configure(panel.fieldConfig, name) };
    return { key, name, show: getDisplayProcessor({ field, theme, timeZone: 'utc' }) };
  });
  const [first] = panel.options.sortBy ?? [];
  const by = columns.find(({ name }) => name === first?.displayName)?.key;
  const sorted = by ? [...rows].sort((a, b) => (first.desc ? -1 : 1) * (a[by] < b[by] ? -1 : 1)) : rows;
  const cell = { padding: '3px 8px', textAlign: 'left', borderBottom: `1px solid ${theme.colors.border.weak}` };
  return <table style={{ width: '100%', fontSize: 12, borderCollapse: 'collapse' }}>
    <thead><tr>{columns.map(({ key, name }) => <th key={key} style={{ ...cell, color: theme.colors.text.link }}>{name}</th>)}</tr></thead>
    <tbody>{sorted.map((row, n) => <tr key={n}>
      {columns.map(({ key, show }) => {
        const shown = typeof row[key] === 'number' ? show(row[key]) : { text: row[key] ?? '' };
        return <td key={key} style={cell}>{formattedValueToString(shown)}</td>;
      })}
    </tr>)}</tbody>
  </table>;
}

function Text({ panel, filled }) {
  // Markdown of lists, links and emphasis is all that our boards have.
  const html = filled(panel.options.content).replace(/\[([^\]]+)\]\([^)]*\)/g, '<u>$1</u>').replace(/`([^`]+)`/g, '<code>$1</code>')
    .replace(/\*\*([^*]+)\*\*/g, '<b>$1</b>').replace(/\n\n/g, '<br><br>');
  return <div style={{ lineHeight: 1.6 }} dangerouslySetInnerHTML={{ __html: html }} />;
}

const KINDS = { timeseries: Lines, stat: Single, heatmap: Heat, table: Table, text: Text };

class Guarded extends React.Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  render() {
    return this.state.error ? <pre data-error>{String(this.state.error)}</pre> : this.props.children;
  }
}

function Panel({ panel, found, width, ...rest }) {
  const { x, y, w, h } = panel.gridPos;
  const column = (width - GAP) / COLUMNS;
  const place = {
    position: 'absolute', left: GAP + x * column, top: HEAD + y * ROW, width: w * column - GAP, height: h * ROW - GAP,
  };
  if (panel.type === 'row') {
    return <section data-row={rest.filled(panel.title)} style={{ ...place, fontSize: 16, fontWeight: 500, paddingTop: 6 }}>
      ⌄ {rest.filled(panel.title)}
    </section>;
  }
  const Kind = KINDS[panel.type];
  return <section data-panel={panel.title} data-kind={panel.type} style={place}>
    <PanelChrome title={rest.filled(panel.title)} description={panel.description} width={place.width} height={place.height}
      padding="sm" loadingState={LoadingState.Done}>
      {(inner, high) => <Guarded>
        {found.error ? <pre data-error>{found.error}</pre>
          : hasData(found) ? <Kind {...rest} {...found} panel={panel} width={inner} height={high} />
            : <Empty panel={panel} height={high} />}
      </Guarded>}
    </PanelChrome>
  </section>;
}

// Draws the board, and gives what stands on the page when it has been painted.
async function draw({ board, mode, width, chosen = {}, rows = {}, colours, ...source }) {
  const theme = createTheme({ colors: { mode } });
  const prometheus = new Prometheus(source);
  const { variables, values } = await choose(board, chosen, prometheus);
  const panels = repeat(board.panels, values, chosen);
  const found = await Promise.all(panels.map((panel) => askFor(panel, prometheus, variables, theme, rows)
    .catch((error) => ({ error: String(error) }))));
  const height = HEAD + Math.max(...panels.map((p) => p.gridPos.y + p.gridPos.h)) * ROW + GAP;
  Object.assign(document.body.style, {
    margin: 0, width: `${width}px`, height: `${height}px`, overflow: 'hidden',
    background: theme.colors.background.canvas, color: theme.colors.text.primary,
    font: `${theme.typography.body.fontSize} ${theme.typography.fontFamily}`,
  });
  const list = board.templating.list.filter((v) => v.type !== 'datasource')
    .map((v) => `${v.label ?? v.name}: ${chosen[v.name] ?? (v.includeAll ? 'All' : variables[v.name])}`);
  createRoot(document.getElementById('board')).render(<ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ position: 'absolute', left: 2 * GAP, top: 10 }}>
      <b style={{ fontSize: 18, marginRight: 24 }}>{board.title}</b>
      <span style={{ color: theme.colors.text.secondary }}>{list.join('   ')}</span>
    </div>
    {panels.map((panel, n) => <Panel key={panel.id} {...{ panel, width, prometheus, theme }} found={found[n]}
      filled={(text) => fillIn(text, prometheus, { ...variables, ...panel.own })} />)}
  </ThemeContext.Provider>);
  await settled();
  return { height, ...look(theme, colours) };
}

// Two frames without a change of the page: all of it is laid out and painted.
async function settled() {
  let changed = true;
  const watch = new MutationObserver(() => { changed = true; });
  watch.observe(document.body, { attributes: true, childList: true, subtree: true });
  while (changed) {
    changed = false;
    for (let n = 0; n < 3; n += 1) await new Promise((done) => requestAnimationFrame(done));
  }
  watch.disconnect();
}

window.draw = draw;
