// Numbers as text.

const whole = new Intl.NumberFormat('en-US', {maximumFractionDigits: 0});
const compact = new Intl.NumberFormat('en-US', {notation: 'compact', maximumSignificantDigits: 3});
const unknown = '–';

export const count = n => (n == null ? unknown : whole.format(n));

export const short = n => (n == null ? unknown : compact.format(n));

export const rate = n => (n == null ? unknown : n > 0 && n < 10 ? n.toFixed(1) : whole.format(n));

const units = [['s', 1], ['ms', 1e-3], ['µs', 1e-6], ['ns', 1e-9]];

// seconds formats a duration with three significant digits and its best unit.
export function seconds(s) {
  if (s == null) return unknown;
  if (s === 0) return '0 s';
  if (s >= 120) return clock(s);
  const [unit, size] = units.find(([, size]) => s >= size * 0.9995) ?? units.at(-1);
  return `${Number((s / size).toPrecision(3))} ${unit}`;
}

// clock formats a duration as h:mm:ss or m:ss.
export function clock(s) {
  const t = Math.floor(s), two = n => String(n).padStart(2, '0');
  const h = Math.floor(t / 3600), m = Math.floor(t / 60) % 60;
  return h > 0 ? `${h}:${two(m)}:${two(t % 60)}` : `${m}:${two(t % 60)}`;
}

// toLocaleTimeString makes a new format each time, which takes longer than drawing a chart.
const toMinute = {hour: '2-digit', minute: '2-digit', hourCycle: 'h23'}, toSecond = {...toMinute, second: '2-digit'};
const minuteOfDay = new Intl.DateTimeFormat([], toMinute), secondOfDay = new Intl.DateTimeFormat([], toSecond);

// timeOfDay formats a time with its seconds, or without them.
export const timeOfDay = (date, withSeconds = true) => (withSeconds ? secondOfDay : minuteOfDay).format(date);

// logSplits returns the multiples of powers of 10 (1, 2, … 9, 10, 20, …) from min to max.
export function logSplits(min, max) {
  const splits = [];
  if (!(min > 0 && max < Infinity)) return splits;
  for (let power = Math.floor(Math.log10(min)); power <= Math.log10(max); power++) {
    for (let digit = 1; digit <= 9; digit++) {
      const split = Number(`${digit}e${power}`);
      if (split >= min && split <= max) splits.push(split);
    }
  }
  return splits;
}
