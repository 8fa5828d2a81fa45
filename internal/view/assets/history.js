// The history of a run: one column of numbers per line of a chart, all of the same length, in the order of time.

import {merge, quantile} from './histogram.js';

// Rows older than age seconds are merged to rows of width seconds, as in the store, so that a page that stays open for
// days takes little memory. They are merged once there are many of them.
const tiers = [{age: 3_900, width: 10}, {age: 36_300, width: 60}, {age: 605_100, width: 3600}];
const many = 600;

// If the row of a second has not arrived this many seconds after its end, nothing happened in that second. The rows of
// later seconds may still arrive.
const late = 5;

// The lines of latencies have a gap where no event took effect for longer than this, in seconds.
const quiet = 30;

const total = counts => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);
const perSecond = (row, n) => (n ?? 0) / (row.w ?? 1);
const outcome = (row, name) => perSecond(row, (row.entry?.outcomes?.[name] ?? 0) + (row.exit?.outcomes?.[name] ?? 0));

// latency is a quantile of a histogram. If the histogram is empty, it is null where the line has a gap, and else
// undefined: a chart draws its line across undefined values.
const latency = (row, h, q) => quantile(h, q) ?? (row.isGap ? null : undefined);

// columns compute the number of each column from a row. h holds the row's histograms of both event types.
const columns = {
  entryTarget: row => perSecond(row, row.entry?.due),
  entryRate: row => perSecond(row, row.entry?.published),
  exitTarget: row => perSecond(row, row.exit?.due),
  exitRate: row => perSecond(row, row.exit?.published),
  endToEnd50: (row, h) => latency(row, h.endToEnd, 0.5),
  endToEnd90: (row, h) => latency(row, h.endToEnd, 0.9),
  endToEnd99: (row, h) => latency(row, h.endToEnd, 0.99),
  processing50: (row, h) => latency(row, h.processing, 0.5),
  processing90: (row, h) => latency(row, h.processing, 0.9),
  processing99: (row, h) => latency(row, h.processing, 0.99),
  ready: row => row.ready ?? null,
  retrying: row => row.retrying ?? null,
  deadLetters: row => row.deadLetters ?? null,
  pool: row => row.pool ?? null,
  entryLag: row => (row.entry?.lagNs ?? 0) / 1e9,
  exitLag: row => (row.exit?.lagNs ?? 0) / 1e9,
  recorded: row => outcome(row, 'recorded'),
  matched: row => outcome(row, 'matched'),
  unmatchedExpected: row => outcome(row, 'unmatched_expected'),
  unexpected: row => outcome(row, 'unmatched_unexpected'),
  duplicates: row => outcome(row, 'duplicate'),
  failures: row => perSecond(row, total(row.entry?.errors) + total(row.exit?.errors)),
  starved: row => perSecond(row, row.exit?.starved),
};

export class History {
  constructor() { this.clear(); }

  clear() {
    this.x = [];
    this.rows = [];
    this.measured = 0; // the number of rows that are not fillers
    this.histograms = [];
    this.columns = Object.fromEntries(Object.keys(columns).map(name => [name, []]));
    this.totals = {endToEnd: new Map(), processing: new Map(), endToEndSum: 0, processingSum: 0};
    this.found = null;
    this.checked = 0;
  }

  // add adds rows, or replaces those of the same time. at is the time by the clock of the server. It shows for which
  // seconds no row will arrive any more. If the run has ended, at is missing.
  add(rows, at) {
    for (const row of rows) this.#put(row);
    if (at) this.#extend(Math.floor(at) - late);
    this.#compact();
  }

  // end is the time at which the last row ends.
  get end() {
    const last = this.rows.at(-1);
    return last ? endOf(last) : 0;
  }

  // column returns the numbers of a column.
  column(name) { return this.columns[name]; }

  // recent is the mean of a rate over the last n complete seconds. Seconds without a row count as 0. The last row may still
  // grow.
  recent(name, n = 3) {
    if (this.rows.length === 0) return null;
    const to = this.rows.length > 1 ? this.end - 1 : this.end, from = Math.max(to - n, this.x[0]);
    let sum = 0;
    for (let i = this.#since(from); i < this.rows.length; i++) {
      const overlap = Math.min(endOf(this.rows[i]), to) - Math.max(this.x[i], from);
      if (overlap > 0) sum += this.columns[name][i] * overlap;
    }
    return sum / (to - from);
  }

  // latest is the last known value of a column.
  latest(name) {
    const all = this.columns[name];
    for (let i = all.length - 1; i >= 0; i--) if (all[i] != null) return all[i];
    return null;
  }

  // distribution merges the histograms of one kind over all rows, or over those of the last n seconds.
  distribution(kind, n = Infinity) {
    if (n === Infinity) return this.#total(kind);
    return merge(...this.histograms.slice(this.#since(this.end - n)).map(h => h[kind]));
  }

  // sum computes a number from each row with the given function, and returns the sum.
  sum(of) { return this.rows.reduce((all, row) => all + (of(row) ?? 0), 0); }

  // marks returns the events of note in the order of time. Replicas of a component may report the same one. Every
  // process reports a missed objective, and that a server is unavailable or available again; only the first of these
  // marks is returned.
  marks() {
    if (this.found) return this.found;
    const all = new Map(), servers = new Map();
    for (const row of this.rows) {
      for (const mark of row.marks ?? []) {
        if (mark.kind === 'unavailable' || mark.kind === 'available') {
          const repeated = servers.get(mark.subject) === mark.kind;
          servers.set(mark.subject, mark.kind);
          if (repeated) continue;
        }
        const key = JSON.stringify(mark.kind === 'objective' ? [mark.kind, mark.subject] : mark);
        if (!all.has(key)) all.set(key, mark);
      }
    }
    return this.found = [...all.values()];
  }

  // #since is the index of the first row that ends after a time.
  #since(t) {
    const i = this.indexOf(t);
    return i > 0 && endOf(this.rows[i - 1]) > t ? i - 1 : i;
  }

  // indexOf is the index of the first row at or after a time.
  indexOf(t) {
    if (this.x.length === 0 || this.x.at(-1) < t) return this.x.length;
    let low = 0, high = this.x.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.x[middle] < t) low = middle + 1; else high = middle;
    }
    return low;
  }

  // #put adds a row, and fills the gaps before and after it. A row of a second that is merged into a wider row already is
  // ignored, so that nothing counts twice.
  #put(row) {
    let at = this.indexOf(row.t);
    if (at > 0 && endOf(this.rows[at - 1]) > row.t) return;
    this.#replace(at, this.indexOf(endOf(row)) - at, row);
    this.#clearGap(at + 1);
    at -= this.#clearGap(at);
    if (at + 1 < this.rows.length) this.#fill(at, this.x[at + 1]);
    if (at > 0) this.#fill(at - 1, row.t);
  }

  // #clearGap removes the fillers next to an index, and returns how many of them were before it.
  #clearGap(at) {
    let first = at, end = at;
    while (this.rows[first - 1]?.isFiller) first--;
    while (this.rows[end]?.isFiller) end++;
    if (end > first) this.#replace(first, end - first);
    return at - first;
  }

  // #fill fills the gap from a row to a time. Two fillers are enough: one at its beginning, and one at its end. They have
  // the gauges of the row, but no events.
  #fill(at, end) {
    const row = this.rows[at], begin = endOf(row), {ready, retrying, deadLetters, pool} = row;
    const filler = t => ({t, ready, retrying, deadLetters, pool, isFiller: true, isGap: end - begin > quiet});
    if (begin < end) this.#replace(at + 1, 0, filler(end - 1));
    if (begin < end - 1) this.#replace(at + 1, 0, filler(begin));
  }

  // #extend fills the gap from the last row to a time.
  #extend(end) {
    this.#clearGap(this.rows.length);
    if (this.rows.length > 0) this.#fill(this.rows.length - 1, end);
  }

  // #replace removes n rows at an index, and inserts a row if there is one.
  #replace(at, n, row) {
    for (let i = at; i < at + n; i++) this.#forget(i);
    const h = row && {endToEnd: merge(row.entry?.endToEnd, row.exit?.endToEnd), processing: merge(row.entry?.processing, row.exit?.processing)};
    if (row) {
      this.#count(h, 1);
      if (!row.isFiller) this.measured++;
      if (row.marks) this.found = null;
    }
    const put = (list, value) => {
      if (!row) list.splice(at, n);
      else if (n === 1) list[at] = value;
      else if (at === list.length) list.push(value);
      else list.splice(at, n, value);
    };
    put(this.x, row?.t);
    put(this.rows, row);
    put(this.histograms, h);
    for (const [name, of] of Object.entries(columns)) put(this.columns[name], row && of(row, h));
  }

  // #forget subtracts a row from the totals.
  #forget(i) {
    this.#count(this.histograms[i], -1);
    if (!this.rows[i].isFiller) this.measured--;
    if (this.rows[i].marks) this.found = null;
  }

  #count(h, sign) {
    for (const kind of ['endToEnd', 'processing']) {
      const counts = this.totals[kind];
      for (const [i, n] of h[kind].buckets) counts.set(i, (counts.get(i) ?? 0) + sign * n);
      this.totals[`${kind}Sum`] += sign * h[kind].sum;
    }
  }

  #total(kind) {
    const buckets = [...this.totals[kind]].filter(([, n]) => n > 0).sort((a, b) => a[0] - b[0]);
    return {sum: this.totals[`${kind}Sum`], total: buckets.reduce((all, [, n]) => all + n, 0), buckets};
  }

  // #compact merges old rows once there are many of them. It looks for them only after many rows were added.
  #compact() {
    if (this.rows.length < this.checked + many) return;
    for (const {age, width} of tiers) {
      const horizon = this.end - age, before = horizon - horizon % width;
      const isOld = row => row.t < before && (row.w ?? 1) < width;
      const rows = this.rows.filter(row => !row.isFiller), old = rows.filter(isOld);
      if (old.length < many) continue;
      const all = mergeRows(old, width).concat(rows.filter(row => !isOld(row)));
      this.clear();
      for (const row of all.sort((a, b) => a.t - b.t)) this.#put(row);
    }
    this.checked = this.rows.length;
  }
}

// endOf is the time at which a row ends.
const endOf = row => row.t + (row.w ?? 1);

// mergeRows merges rows to a width: counts add up, gauges and lags keep their maximum.
function mergeRows(rows, width) {
  const merged = new Map();
  for (const row of rows) {
    const t = row.t - row.t % width;
    const into = merged.get(t) ?? {t, w: width};
    merged.set(t, addObject(into, row, ['t', 'w']));
  }
  return [...merged.values()];
}

const maxima = new Set(['lagNs', 'ready', 'retrying', 'deadLetters', 'pool']);

function addObject(into, other, skip = []) {
  for (const [name, value] of Object.entries(other)) {
    if (skip.includes(name)) continue;
    const before = into[name];
    if (before == null) into[name] = structuredClone(value);
    else if (Array.isArray(value)) into[name] = before.concat(value);
    else if (value.buckets) into[name] = {sumNs: before.sumNs + value.sumNs, buckets: merge(before, value).buckets};
    else if (typeof value === 'object') addObject(before, value);
    else into[name] = maxima.has(name) ? Math.max(before, value) : before + value;
  }
  return into;
}
