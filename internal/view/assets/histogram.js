// Histograms with the buckets of package histogram: bucket i holds the durations in (2^((i-1)/8), 2^(i/8)] seconds.

const perOctave = 8;

export const upperBound = i => 2 ** (i / perOctave);

export const bucketOf = s => Math.ceil(Math.log2(s) * perOctave);

// merge adds histograms in their JSON form. The result is {sum, total, buckets: [[index, count], ...]}.
export function merge(...histograms) {
  const counts = new Map();
  let sum = 0;
  for (const h of histograms) {
    if (!h) continue;
    sum += h.sumNs ?? h.sum * 1e9 ?? 0;
    for (const [i, n] of h.buckets ?? []) counts.set(i, (counts.get(i) ?? 0) + n);
  }
  const buckets = [...counts].sort((a, b) => a[0] - b[0]);
  return {sum: sum / 1e9, total: buckets.reduce((all, [, n]) => all + n, 0), buckets};
}

// quantile estimates a quantile in seconds as package histogram does. It is null if nothing was measured.
export function quantile(h, q) {
  if (h.total === 0) return null;
  const rank = q * h.total;
  let below = 0;
  for (const [i, n] of h.buckets) {
    if (below + n >= rank) {
      const lower = upperBound(i - 1);
      return lower * (upperBound(i) / lower) ** ((rank - below) / n);
    }
    below += n;
  }
  return upperBound(h.buckets.at(-1)[0]);
}

export const mean = h => (h.total === 0 ? null : h.sum / h.total);
