// The charts: one uPlot each, drawn in place as data arrives.

import {Heatmap} from './heatmap.js';
import {logSplits, rate, seconds, short, timeOfDay} from './numbers.js';
import {plugin} from './marks.js';
import {term} from './tooltip.js';

const uPlot = window.uPlot;

// specs says what each chart shows. unit selects the axis: logarithmic for latencies, otherwise linear.
const specs = [
  {
    title: 'Rates', unit: 'rate',
    meaning: 'Events per second that the generators published, and those that the schedule asked for.',
    lines: [['entries', 'entryRate', '--blue'], ['entries target', 'entryTarget', '--blue', 'dash'],
      ['exits', 'exitRate', '--orange'], ['exits target', 'exitTarget', '--orange', 'dash']],
  },
  {
    title: 'End-to-end latency', unit: 'latency', objective: 'endToEndP99Seconds',
    meaning: 'Time from when an event was due by the schedule to its effect in the store. ' +
      'A waiting event counts in the second in which it takes effect.',
    lines: [['p50', 'endToEnd50', '--teal'], ['p90', 'endToEnd90', '--orange'], ['p99', 'endToEnd99', '--purple']],
  },
  {
    title: 'End-to-end latency, distribution', heatmap: 'endToEnd',
    meaning: 'The number of events at each end-to-end latency. A darker cell, or a brighter one in the dark theme, has more events.',
  },
  {
    title: 'Backlog', unit: 'count',
    meaning: 'Messages in the queues, without those that processors hold: ready, waiting for a retry, or dead-lettered.',
    lines: [['ready', 'ready', '--blue'], ['waiting for a retry', 'retrying', '--orange'], ['dead letters', 'deadLetters', '--red']],
  },
  {
    title: 'Processing latency', unit: 'latency', objective: 'processingP99Seconds',
    meaning: 'Time that a processor needs for one event, from its delivery to its effect.',
    lines: [['p50', 'processing50', '--teal'], ['p90', 'processing90', '--orange'], ['p99', 'processing99', '--purple']],
  },
  {
    title: 'Processing latency, distribution', heatmap: 'processing',
    meaning: 'The number of events at each processing latency. A darker cell, or a brighter one in the dark theme, has more events.',
  },
  {
    title: 'Generator lag', unit: 'seconds',
    meaning: 'How late the generators are: the delay of the next event that is due. It grows when the broker or the store holds them up.',
    lines: [['entries', 'entryLag', '--blue'], ['exits', 'exitLag', '--orange']],
  },
  {
    title: 'Outcomes', unit: 'rate',
    meaning: 'Results of processing, per second. Unexpectedly unmatched exits and failed attempts are signs of a fault.',
    lines: [['recorded', 'recorded', '--blue'], ['matched', 'matched', '--teal'], ['unmatched as expected', 'unmatchedExpected', '--orange'],
      ['duplicates', 'duplicates', '--gray'], ['unexpectedly unmatched', 'unexpected', '--purple'], ['failed attempts', 'failures', '--red']],
  },
  {
    title: 'Available plates', unit: 'count',
    meaning: 'Vehicles that are parked and may leave. A starved draw is an exit that was due, but was not published, ' +
      'because no vehicle was available.',
    lines: [['available', 'pool', '--blue'], ['starved draws per second', 'starved', '--red']],
  },
];

const format = {rate, count: short, latency: seconds, seconds};

const height = 180;

export const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// cached returns a function that does the same as color, but remembers the results, which are valid for one theme. To
// ask for computed styles in each frame would be slow.
function cached() {
  const known = new Map();
  return name => known.get(name) ?? known.set(name, color(name)).get(name);
}

// Charts draws all charts. options are history, marks() and objectives().
export class Charts {
  constructor(root, options) {
    Object.assign(this, options, {root, window: Infinity, next: 0, color: cached()});
    this.charts = specs.map(spec => this.#frame(spec));
    this.visible = new IntersectionObserver(entries => {
      for (const {target, isIntersecting} of entries) {
        const chart = this.charts.find(c => c.frame === target);
        chart.inView = isIntersecting;
        if (isIntersecting) this.changed();
      }
    }, {rootMargin: '100px'});
    this.resized = new ResizeObserver(entries => {
      for (const {target, contentRect} of entries) {
        const chart = this.charts.find(c => c.body === target);
        if (chart.plot && contentRect.width > 0) chart.plot.setSize({width: contentRect.width, height});
      }
    });
    for (const chart of this.charts) {
      this.visible.observe(chart.frame);
      this.resized.observe(chart.body);
    }
    this.#create();
  }

  // show selects the period: the last window seconds, or everything if window is Infinity.
  show(window) {
    this.window = window;
    this.changed();
  }

  // recolor creates the charts again in the colors of the current theme.
  recolor() {
    this.color = cached();
    this.#create();
    this.changed();
  }

  // changed marks all charts as out of date and draws them in the next frames.
  changed() {
    for (const chart of this.charts) chart.stale = true;
    this.frame ??= requestAnimationFrame(() => this.#draw());
  }

  // #draw draws what is out of date and visible. A frame ends after a few milliseconds, so that the page stays
  // responsive. The next frame continues with the chart at which this one ended: if updates arrive faster than all charts
  // can be drawn, each chart skips some updates, but all charts are drawn regularly.
  #draw() {
    this.frame = null;
    const begin = performance.now(), x = this.#range(), n = this.charts.length, first = this.next;
    for (let i = 0; i < n; i++) {
      const at = (first + i) % n, chart = this.charts[at];
      if (!chart.stale || !chart.inView) continue;
      if (performance.now() - begin > 6) {
        this.next = at;
        this.frame = requestAnimationFrame(() => this.#draw());
        break;
      }
      chart.stale = false;
      this.#update(chart, x);
      chart.rows = this.history.measured;
    }
    this.root.dataset.drawn = Math.min(...this.charts.filter(c => c.inView).map(c => c.rows ?? 0));
  }

  #update({plot, spec, map}, x) {
    plot.batch(() => {
      plot.setData(this.#data(spec), false);
      plot.setScale('x', x);
      if (map) plot.setScale('y', map.range(plot, x));
    });
    // Without a pointer on the chart, its legend has the latest values.
    if (!map && plot.cursor.left < 0) plot.setLegend({idx: this.history.x.length - 1}, false);
  }

  #range() {
    const {x, end} = this.history;
    const max = end || Date.now() / 1000;
    const first = x.length ? x[0] : max - 30;
    return {min: Math.max(first, max - this.window) - (max - first < 10 ? 10 : 0), max};
  }

  #data(spec) {
    if (spec.heatmap) return [this.history.x, this.history.column('ready')]; // the values are not drawn
    return [this.history.x, ...spec.lines.map(([, column]) => this.history.column(column))];
  }

  #frame(spec) {
    const frame = document.createElement('figure'), head = document.createElement('figcaption'), title = document.createElement('h2');
    title.append(term(spec.title, spec.meaning));
    head.append(title);
    if (spec.heatmap) head.append(scale());
    const body = document.createElement('div');
    body.className = spec.heatmap ? 'plot heatmap' : 'plot';
    body.tabIndex = 0;
    body.setAttribute('role', 'group');
    body.setAttribute('aria-label', `${spec.title}: the arrow keys move the cursor`);
    body.addEventListener('keydown', event => this.#key(body, event));
    frame.append(head, body);
    this.root.append(frame);
    return {spec, frame, body, head};
  }

  // #key moves the cursor of all charts. The legends show the values at the cursor.
  #key(body, event) {
    const {plot} = this.charts.find(c => c.body === body), {width} = plot.over.getBoundingClientRect();
    const at = plot.cursor.left < 0 ? width : plot.cursor.left, step = event.shiftKey ? width / 10 : width / 100;
    const left = {ArrowLeft: at - step, ArrowRight: at + step, Home: 0, End: width, Escape: -1}[event.key];
    if (left == null) return;
    event.preventDefault();
    const time = plot.posToVal(Math.min(Math.max(left, 0), width), 'x'), hidden = {left: -10, top: -10};
    for (const {plot: each} of this.charts) {
      each.setCursor(event.key === 'Escape' ? hidden : {left: each.valToPos(time, 'x'), top: height / 3}, false, false);
    }
  }

  #create() {
    for (const chart of this.charts) {
      chart.plot?.destroy();
      const width = Math.max(chart.body.clientWidth, 200);
      const options = chart.spec.heatmap ? this.#heatmap(chart) : this.#lines(chart.spec);
      chart.plot = new uPlot({...this.#common(), ...options, width, height}, this.#data(chart.spec), chart.body);
      const canvas = chart.body.querySelector('canvas');
      canvas.setAttribute('role', 'img');
      canvas.setAttribute('aria-label', `${chart.spec.title}. ${chart.spec.meaning}`);
      chart.stale = true;
    }
  }

  #common() {
    return {
      cursor: {sync: {key: 'time', scales: ['x', null]}, drag: {x: false, y: false}, points: {size: 6}},
      legend: {live: true},
    };
  }

  #axis(more) {
    return {
      stroke: this.color('--quiet'), font: '11px system-ui, sans-serif',
      grid: {stroke: this.color('--grid'), width: 1}, ticks: {stroke: this.color('--grid'), width: 1, size: 4}, ...more,
    };
  }

  #lines(spec) {
    const text = format[spec.unit], log = spec.unit === 'latency';
    const value = (_, v) => text(v);
    const series = spec.lines.map(([label, , stroke, dash]) => ({
      label, value, stroke: this.color(stroke), width: dash ? 1 : 1.5, dash: dash ? [5, 4] : undefined,
      points: {show: false}, spanGaps: !log,
    }));
    return {
      scales: {x: {time: true}, y: log ? {distr: 3, range: logRange} : {range: linearRange}},
      axes: [this.#axis({space: 70, size: 30, values: timeTicks}), this.#axis({size: 58, splits: log ? logAxis : undefined, values: (_, ticks) => ticks.map(v => (v == null ? '' : text(v)))})],
      series: [{label: 'time', value: (_, t) => (t == null ? '–' : timeOfDay(new Date(t * 1000)))}, ...series],
      plugins: [plugin(this.marks, this.color), this.#objective(spec)],
    };
  }

  // #objective draws a line at the objective of a latency.
  #objective(spec) {
    const draw = u => {
      const value = spec.objective && this.objectives()?.[spec.objective];
      if (!value || value > u.scales.y.max || value < u.scales.y.min) return;
      const y = u.valToPos(value, 'y', true), {left, width} = u.bbox, {ctx} = u;
      ctx.save();
      ctx.strokeStyle = ctx.fillStyle = this.color('--bad');
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([8 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(left, y);
      ctx.lineTo(left + width, y);
      ctx.stroke();
      ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.textAlign = 'left';
      ctx.textBaseline = y - u.bbox.top > 16 * devicePixelRatio ? 'bottom' : 'top';
      ctx.fillText(`objective: p99 ≤ ${seconds(value)}`, left + 6 * devicePixelRatio, y + (ctx.textBaseline === 'top' ? 4 : -2) * devicePixelRatio);
      ctx.restore();
    };
    return {hooks: {draw}};
  }

  #heatmap(chart) {
    const map = chart.map = new Heatmap(this.history, chart.spec.heatmap, this.color);
    const value = u => {
      const {left, top} = u.cursor;
      if (left == null || left < 0) return '–';
      const cell = map.describe(u.posToVal(left, 'x'), u.posToVal(top, 'y'));
      return cell ? `${seconds(cell.lower)} to ${seconds(cell.upper)}: ${short(cell.count)}` : '–';
    };
    // uPlot itself changes the legend only when the pointer reaches another second.
    const setCursor = u => {
      const isPointed = u.cursor.left >= 0;
      chart.body.classList.toggle('pointed', isPointed);
      if (isPointed) u.setLegend({idx: u.cursor.idx}, false);
    };
    return {
      scales: {x: {time: true}, y: {distr: 3, auto: false, range: (_, min, max) => (min > 0 ? [min, max] : [1e-3, 1])}},
      axes: [this.#axis({space: 70, size: 30, values: timeTicks}), this.#axis({size: 58, splits: logAxis, values: (_, ticks) => ticks.map(v => (v == null ? '' : seconds(v)))})],
      series: [{label: 'time', value: (_, t) => (t == null ? '–' : timeOfDay(new Date(t * 1000)))},
        {label: 'events', stroke: this.color('--heat-high'), value, paths: () => null, points: {show: false}}],
      // Without a pointer on the chart, its legend has no value to show.
      plugins: [{hooks: {drawAxes: u => map.draw(u), setCursor}}, plugin(this.marks, this.color)],
    };
  }
}

// scale returns the key to the colors of a heat map.
function scale() {
  const key = document.createElement('div');
  key.className = 'scale';
  key.append(document.createElement('span'));
  return key;
}

// logRange spans whole decades, at least one.
function logRange(_, min, max) {
  if (!(min > 0)) return [1e-4, 1];
  const low = 10 ** Math.floor(Math.log10(min) + 1e-9), high = 10 ** Math.ceil(Math.log10(max) - 1e-9);
  return [low, Math.max(high, low * 10)];
}

// logAxis replaces uPlot's own splits, which never end for some minimums that are not a power of 10, such as 0.0097.
const logAxis = (_, __, min, max) => logSplits(min, max);

// linearRange begins at 0.
const linearRange = (_, __, max) => [0, max > 0 ? max * 1.08 : 1];

const timeTicks = (_, ticks, __, ___, step) => ticks.map(t => timeOfDay(new Date(t * 1000), step < 60));
