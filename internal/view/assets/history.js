// The history of a run: one column of numbers per line of a chart, all of the same length, in the order of time.

import {merge, quantile} from './histogram.js';

// Rows older than keepFine seconds are merged to coarse seconds, so that a page that stays open takes bounded memory.
const keepFine = 3900, coarse = 10;

const total = counts => Object.values(counts ?? {}).reduce((a, b) => a + b, 0);
const perSecond = (row, n) => (n ?? 0) / (row.w ?? 1);
const outcome = (row, name) => perSecond(row, (row.entry?.outcomes?.[name] ?? 0) + (row.exit?.outcomes?.[name] ?? 0));
const error = (row, name) => perSecond(row, (row.entry?.errors?.[name] ?? 0) + (row.exit?.errors?.[name] ?? 0));

// columns compute the number of each column from a row. h holds the row's histograms of both event types.
const columns = {
  entryTarget: row => perSecond(row, row.entry?.due),
  entryRate: row => perSecond(row, row.entry?.published),
  exitTarget: row => perSecond(row, row.exit?.due),
  exitRate: row => perSecond(row, row.exit?.published),
  endToEnd50: (row, h) => quantile(h.endToEnd, 0.5),
  endToEnd90: (row, h) => quantile(h.endToEnd, 0.9),
  endToEnd99: (row, h) => quantile(h.endToEnd, 0.99),
  processing50: (row, h) => quantile(h.processing, 0.5),
  processing90: (row, h) => quantile(h.processing, 0.9),
  processing99: (row, h) => quantile(h.processing, 0.99),
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
    this.histograms = [];
    this.columns = Object.fromEntries(Object.keys(columns).map(name => [name, []]));
    this.totals = {endToEnd: new Map(), processing: new Map(), endToEndSum: 0, processingSum: 0};
  }

  // add adds rows, or replaces those of the same time.
  add(rows) {
    for (const row of rows) this.#put(row);
    this.#compact();
  }

  // end is the time at which the last row ends.
  get end() {
    const last = this.rows.at(-1);
    return last ? last.t + (last.w ?? 1) : 0;
  }

  // column returns the numbers of a column.
  column(name) { return this.columns[name]; }

  // recent is the mean of a column over the last complete seconds. The last row may still grow.
  recent(name, n = 3) {
    const all = this.columns[name], values = all.slice(Math.max(0, all.length - 1 - n), Math.max(all.length - 1, 1));
    const known = values.filter(v => v != null);
    return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
  }

  // latest is the last known value of a column.
  latest(name) {
    const all = this.columns[name];
    for (let i = all.length - 1; i >= 0; i--) if (all[i] != null) return all[i];
    return null;
  }

  // distribution merges the histograms of one kind over all rows, or over the last n.
  distribution(kind, n = Infinity) {
    if (n === Infinity) return this.#total(kind);
    return merge(...this.histograms.slice(-n).map(h => h[kind]));
  }

  // sum adds up a number of all rows.
  sum(of) { return this.rows.reduce((all, row) => all + (of(row) ?? 0), 0); }

  // marks returns the events of note in the order of time.
  marks() { return this.rows.flatMap(row => row.marks ?? []); }

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

  #put(row) {
    const h = {endToEnd: merge(row.entry?.endToEnd, row.exit?.endToEnd), processing: merge(row.entry?.processing, row.exit?.processing)};
    const at = this.indexOf(row.t), end = this.indexOf(row.t + (row.w ?? 1));
    for (let i = at; i < end; i++) this.#count(this.histograms[i], -1);
    this.#count(h, 1);
    this.#splice(at, end - at, row, h);
  }

  #splice(at, n, row, h) {
    const put = (list, value) => {
      if (n === 1) list[at] = value;
      else if (at === list.length) list.push(value);
      else list.splice(at, n, value);
    };
    put(this.x, row.t);
    put(this.rows, row);
    put(this.histograms, h);
    for (const [name, of] of Object.entries(columns)) put(this.columns[name], of(row, h));
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

  // #compact merges old rows once there are many of them.
  #compact() {
    const old = this.indexOf(this.end - keepFine);
    if (old < 600 || this.rows.slice(0, old).every(row => (row.w ?? 1) >= coarse)) return;
    const rows = mergeRows(this.rows.slice(0, old)).concat(this.rows.slice(old));
    this.clear();
    for (const row of rows) this.#put(row);
  }
}

// mergeRows merges rows to coarse seconds: counts add up, gauges and lags keep their maximum.
function mergeRows(rows) {
  const merged = new Map();
  for (const row of rows) {
    const t = row.t - row.t % coarse;
    const into = merged.get(t) ?? {t, w: Math.max(coarse, row.w ?? 1)};
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
