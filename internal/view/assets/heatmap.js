// A heat map: how many events had which latency at which time.

import {bucketOf, upperBound} from './histogram.js';

// Heatmap draws one kind of histogram of a history into a uPlot chart.
export class Heatmap {
  constructor(history, kind, color) {
    Object.assign(this, {history, kind, color, canvas: document.createElement('canvas')});
  }

  // bounds returns the lowest and the highest bucket that the visible rows have.
  bounds(from, to) {
    let low = Infinity, high = -Infinity;
    for (let i = from; i < to; i++) {
      const {buckets} = this.history.histograms[i][this.kind];
      if (buckets.length === 0) continue;
      low = Math.min(low, buckets[0][0]);
      high = Math.max(high, buckets.at(-1)[0]);
    }
    return low > high ? [bucketOf(1e-3), bucketOf(1)] : [low - 1, Math.max(high, low + 8)];
  }

  visible({min, max}) { return [Math.max(0, this.history.indexOf(min) - 1), this.history.indexOf(max)]; }

  // range returns the y scale for an x scale, in seconds.
  range(x) {
    const [low, high] = this.bounds(...this.visible(x));
    return {min: upperBound(low), max: upperBound(high)};
  }

  draw(u) {
    const [from, to] = this.visible(u.scales.x), [low, high] = this.bounds(from, to);
    const {min, max} = u.scales.x, {left, top, width, height} = u.bbox;
    // One column per second, or as many seconds as fill 2 pixels.
    const step = Math.max(1, Math.ceil((max - min) / (width / 2)));
    const columns = Math.max(1, Math.ceil((max - min) / step)), rows = high - low;
    const counts = new Float64Array(columns * rows);
    let most = 0;
    for (let i = from; i < to; i++) {
      const row = this.history.rows[i], w = row.w ?? 1;
      const first = Math.floor((row.t - min) / step), last = Math.max(first, Math.ceil((row.t + w - min) / step) - 1);
      for (const [index, n] of this.history.histograms[i][this.kind].buckets) {
        for (let c = Math.max(0, first); c <= Math.min(columns - 1, last); c++) {
          const at = (high - index) * columns + c;
          counts[at] += n / w;
          most = Math.max(most, counts[at]);
        }
      }
    }
    this.paint(counts, columns, rows, most);
    const {ctx} = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.canvas, left, top, width * columns * step / (max - min), height);
    ctx.restore();
  }

  paint(counts, columns, rows, most) {
    this.canvas.width = columns;
    this.canvas.height = rows;
    const context = this.canvas.getContext('2d'), image = context.createImageData(columns, rows);
    const palette = this.palette(), scale = most > 0 ? (palette.length - 1) / Math.log1p(most) : 0;
    for (let i = 0; i < counts.length; i++) {
      if (counts[i] === 0) continue;
      const color = palette[Math.round(Math.log1p(counts[i]) * scale)];
      image.data.set(color, i * 4);
    }
    context.putImageData(image, 0, 0);
  }

  // palette returns 64 colors from --heat-low to --heat-high.
  palette() {
    const stops = ['--heat-low', '--heat-middle', '--heat-high'].map(name => rgb(this.color(name)));
    return Array.from({length: 64}, (_, i) => {
      const at = i / 63 * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2), share = at - k;
      return [...stops[k].map((v, channel) => v + (stops[k + 1][channel] - v) * share), 255];
    });
  }

  // describe says how many events a second the cell at a time and a latency has.
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
