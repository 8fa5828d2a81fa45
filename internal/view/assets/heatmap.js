// A heat map: how many events had which latency at which time.

import {bucketOf, upperBound} from './histogram.js';

// Heatmap draws one kind of histogram of a history into a uPlot chart.
export class Heatmap {
  constructor(history, kind, color) {
    Object.assign(this, {history, kind, color, canvas: document.createElement('canvas')});
  }

  // columns returns the columns of the chart for an x scale, and the length of one in seconds: 1 s, or as many seconds
  // as fill 2 pixels. Columns begin at multiples of their length, so that they stay the same while time passes; those
  // whose rows have not changed are not computed again.
  columns(u, {min, max}) {
    const step = Math.max(1, Math.ceil((max - min) / (u.bbox.width / 2)));
    const known = step === this.step ? this.known : new Map();
    this.step = step;
    this.known = new Map();
    const all = [];
    for (let start = Math.floor(min / step) * step; start < max; start += step) {
      const before = known.get(start), column = this.isCurrent(before) ? before : this.column(start, step);
      this.known.set(start, column);
      all.push(column);
    }
    return {step, all};
  }

  // column counts the events of the rows that overlap a column. A row that overlaps it partly adds a part of its events.
  column(start, step) {
    const {rows, histograms} = this.history, end = start + step;
    let from = this.history.indexOf(start);
    const to = this.history.indexOf(end), before = rows[from - 1];
    if (before && before.t + (before.w ?? 1) > start) from--;
    const counts = new Map();
    for (let i = from; i < to; i++) {
      const {t, w = 1} = rows[i], share = (Math.min(t + w, end) - Math.max(t, start)) / w;
      for (const [index, n] of histograms[i][this.kind].buckets) counts.set(index, (counts.get(index) ?? 0) + n * share);
    }
    return {start, end, from: rows[from]?.t, of: histograms.slice(from, to), counts, most: Math.max(0, ...counts.values())};
  }

  // isCurrent reports whether the rows of a column are those from which it was computed.
  isCurrent(column) {
    if (!column?.of.length) return false;
    const {histograms} = this.history, from = this.history.indexOf(column.from);
    return from + column.of.length === this.history.indexOf(column.end) && column.of.every((h, i) => h === histograms[from + i]);
  }

  // bounds returns the lowest and the highest bucket of columns.
  bounds(columns) {
    let low = Infinity, high = -Infinity;
    for (const {counts} of columns) {
      for (const index of counts.keys()) {
        low = Math.min(low, index);
        high = Math.max(high, index);
      }
    }
    return low > high ? [bucketOf(1e-3), bucketOf(1)] : [low - 1, Math.max(high, low + 8)];
  }

  // range returns the y scale for an x scale, in seconds.
  range(u, x) {
    const [low, high] = this.bounds(this.columns(u, x).all);
    return {min: upperBound(low), max: upperBound(high)};
  }

  draw(u) {
    const {min, max} = u.scales.x, {left, top, width, height} = u.bbox, {ctx} = u;
    const {step, all} = this.columns(u, {min, max});
    if (all.length === 0) return;
    this.paint(all, ...this.bounds(all));
    const pixels = width / (max - min); // of a second
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.canvas, left + (all[0].start - min) * pixels, top, all.length * step * pixels, height);
    ctx.restore();
  }

  // paint paints one pixel for each column and bucket.
  paint(columns, low, high) {
    Object.assign(this.canvas, {width: columns.length, height: high - low});
    const context = this.canvas.getContext('2d'), image = context.createImageData(this.canvas.width, this.canvas.height);
    const colors = this.colors ??= this.palette(), pixels = new Uint32Array(image.data.buffer);
    const most = columns.reduce((all, c) => Math.max(all, c.most), 0), scale = most > 0 ? (colors.length - 1) / Math.log1p(most) : 0;
    columns.forEach(({counts}, x) => {
      for (const [index, n] of counts) pixels[(high - index) * columns.length + x] = colors[Math.round(Math.log1p(n) * scale)];
    });
    context.putImageData(image, 0, 0);
  }

  // palette returns 64 colors from --heat-low to --heat-high, as they are in the memory of an image.
  palette() {
    const stops = ['--heat-low', '--heat-middle', '--heat-high'].map(name => rgb(this.color(name)));
    return Array.from({length: 64}, (_, i) => {
      const at = i / 63 * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2), share = at - k;
      const color = stops[k].map((v, channel) => v + (stops[k + 1][channel] - v) * share);
      return new Uint32Array(new Uint8ClampedArray([...color, 255]).buffer)[0];
    });
  }

  // describe returns what the legend shows for the given time and latency: the bounds of the histogram bucket, and how many
  // events of the row are in that bucket.
  describe(t, seconds) {
    const i = this.history.indexOf(t + 1e-6) - 1, row = this.history.rows[i];
    if (!row || t >= row.t + (row.w ?? 1)) return null;
    const index = bucketOf(seconds);
    const found = this.history.histograms[i][this.kind].buckets.find(([b]) => b === index);
    return {lower: upperBound(index - 1), upper: upperBound(index), count: found?.[1] ?? 0};
  }
}

// rgb parses #rrggbb.
const rgb = text => [1, 3, 5].map(at => parseInt(text.slice(at, at + 2), 16));
