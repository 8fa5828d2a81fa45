// Key numbers, the ledger and the totals. Elements are created once and updated in place.

import {mean, quantile} from './histogram.js';
import {count, rate, seconds, short} from './numbers.js';
import {term} from './tooltip.js';

const element = (name, className, ...children) => {
  const e = document.createElement(name);
  if (className) e.className = className;
  e.append(...children);
  return e;
};

// set changes a text only if it differs, so that nothing flickers and a selection stays.
export function set(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

const setClass = (e, name, on) => { if (e.classList.contains(name) !== on) e.classList.toggle(name, on); };

const seconds10 = 10;

const missed = (value, objective) => objective > 0 && value > objective;

// tiles are the key numbers: label, meaning, value, note, and whether it is bad.
const tiles = [
  ['Entries', 'Entry events that are published per second, and the rate that the schedule asks for: now, or the mean of a run that is over.',
    (s, h) => rateTile(s, s.entry, h.recent('entryRate'), h.recent('entryTarget'))],
  ['Exits', 'Exit events that are published per second, and the rate that the schedule asks for: now, or the mean of a run that is over.',
    (s, h) => rateTile(s, s.exit, h.recent('exitRate'), null)], // exits starve without a fault
  ['End-to-end p99', '99 % of the events took effect at most this long after they were due: in the last 10 seconds, or in a run that is over.',
    (s, h) => latencyTile(s, h, 'endToEnd', s.objectives.endToEndP99Seconds)],
  ['Processing p99', '99 % of the events took a processor at most this long: in the last 10 seconds, or in a run that is over.',
    (s, h) => latencyTile(s, h, 'processing', s.objectives.processingP99Seconds)],
  ['Backlog', 'Messages that are ready in the event queues, without those that processors hold. The note counts those that wait to be retried.',
    s => [short(s.queues.ready), `${short(s.queues.retrying)} to retry`, false]],
  ['Lag', 'How late the generators are: the delay of the next event that is due, for the later of entries and exits.',
    s => [seconds(Math.max(s.entry.lagSeconds, s.exit.lagSeconds)), `${count(s.entry.missed + s.exit.missed)} events missed`,
      s.entry.missed + s.exit.missed > 0]],
  ['Outstanding', 'Confirmed events that have not taken effect yet. The note counts the messages that processors hold now, where it is known.',
    s => [short(s.ledger?.outstanding), s.queues.inFlight == null ? '' : `${short(s.queues.inFlight)} in flight`, false]],
  ['Lost', 'Confirmed events that never took effect. It is known once no event is on its way. The note counts dead letters.',
    s => [s.ledger?.atRest ? count(s.ledger.lost) : '–', `${count(s.queues.deadLetters)} dead letters`,
      s.ledger?.lost > 0 || s.queues.deadLetters > 0]],
];

function rateTile(state, generator, now, target) {
  if (state.phase !== 'running') return [`${rate(generator.achievedRate)}/s`, `mean, target ${rate(generator.targetRate)}/s`, false];
  return [`${rate(now)}/s`, `target ${rate(generator.rate)}/s`, target != null && now < 0.9 * target];
}

function latencyTile(state, h, kind, objective) {
  const p99 = quantile(h.distribution(kind, state.phase === 'finished' ? Infinity : seconds10), 0.99);
  return [seconds(p99), objective > 0 ? `objective ${seconds(objective)}` : 'no objective', missed(p99, objective)];
}

export class Tiles {
  constructor(root) {
    this.tiles = tiles.map(([label, meaning, of]) => {
      const value = element('dd', 'value', '–'), note = element('dd', 'note', '–');
      const tile = element('div', 'tile', element('dt', '', term(label, meaning)), value, note);
      root.append(tile);
      return {of, value, note, tile};
    });
  }

  show(state, history) {
    for (const {of, value, note, tile} of this.tiles) {
      const [v, n, bad] = of(state, history);
      set(value, v);
      set(note, n);
      setClass(tile, 'bad', Boolean(bad));
    }
  }
}

// ledgerRows compare what was confirmed with what took effect.
const ledgerRows = [
  ['entries', 'Entry events whose publishing the broker has confirmed.', l => l.entriesConfirmed,
    'recorded', 'Entries whose vehicle is recorded as parked.', l => l.entriesRecorded, l => l.indeterminateEntries],
  ['matched exits', 'Confirmed exits of vehicles that are parked.', l => l.exitsMatchedConfirmed,
    'matched', 'Exits that ended a visit.', l => l.matched + l.unmatchedUnexpected, l => l.indeterminateMatched],
  ['unmatched exits', 'Confirmed exits of vehicles that never entered.', l => l.exitsUnmatchedConfirmed,
    'unmatched as expected', 'Exits that found no visit, as they should.', l => l.unmatchedExpected, l => l.indeterminateUnmatched],
  ['finished visits', 'Visits that an exit has ended, also those of external publishers.', l => l.matched + l.externalMatched,
    'summaries stored', 'Summaries of visits that the summary API has accepted.', l => l.summariesStored, () => 0],
];

const facts = [
  ['lost', 'Confirmed events that never took effect. It is known once no event is on its way.', l => (l.atRest ? l.lost : null), true],
  ['counted twice', 'Effects in excess of the events that took effect.', l => l.takenTwice, true],
  ['unexpectedly unmatched', 'Exits of parked vehicles that found no visit.', l => l.unmatchedUnexpected, true],
  ['dead letters', 'Messages that no processor could process and that will not be retried.', l => l.deadLettered, true],
  ['duplicates suppressed', 'Deliveries of events that had taken effect before. They changed nothing.', l => l.duplicatesSuppressed, false],
  ['indeterminate', 'Events that took effect although their generator died before it could record their confirm.', l => l.indeterminate, false],
  ['not measured', 'Events that took effect but are missing from the latencies. For example, their processor was killed before it stored its ' +
    'latest measurements, or clock differences made them seem to take effect more than 1 s before they were due. The number is known ' +
    'once the run has finished.', (l, s) => s.unmeasured, false],
  ['starved draws', 'Exits that were not published because no parked vehicle was available.', l => l.starved, false],
  ['generator runs', 'Generator processes that ever published an event.', l => l.runs, false],
];

export class Ledger {
  constructor(table, list) {
    table.parentElement.tHead.rows[0].cells[4].append(term('balance',
      'Whether as many events took effect as were confirmed. Events that are on their way are pending.'));
    this.rows = ledgerRows.map(([left, leftMeaning, confirmed, right, rightMeaning, effects, beyond]) => {
      const cells = [element('td', 'number'), element('td', 'number'), element('td', 'number balance')];
      const heading = element('th', '', term(left, leftMeaning));
      heading.scope = 'row';
      table.append(element('tr', '', heading, cells[0], element('td', '', term(right, rightMeaning)), cells[1], cells[2]));
      return {confirmed, effects, beyond, cells};
    });
    this.facts = facts.map(([label, meaning, of, mustBeZero]) => {
      const value = element('dd');
      const fact = element('div', '', element('dt', '', term(label, meaning)), value);
      list.append(fact);
      return {of, mustBeZero, value, fact};
    });
  }

  show(state) {
    const {ledger} = state;
    for (const {confirmed, effects, beyond, cells} of this.rows) {
      const c = ledger && confirmed(ledger), e = ledger && effects(ledger);
      set(cells[0], count(c));
      set(cells[1], count(e));
      const [text, state] = ledger ? balance(c + beyond(ledger) - e, ledger.atRest) : ['–', ''];
      set(cells[2], text);
      for (const name of ['good', 'bad']) setClass(cells[2], name, name === state);
    }
    for (const {of, mustBeZero, value, fact} of this.facts) {
      const n = ledger ? of(ledger, state) : null;
      set(value, count(n));
      setClass(fact, 'bad', mustBeZero && n > 0);
    }
  }
}

// balance says what the difference between two columns means. While the run is not at rest, events are on their way,
// and an effect may be counted before its confirm.
function balance(difference, atRest) {
  if (difference === 0) return ['✓ equal', 'good'];
  if (!atRest) return [difference > 0 ? `${short(difference)} pending` : 'counting', ''];
  return [difference > 0 ? `✗ ${short(difference)} less` : `✗ ${short(-difference)} more`, 'bad'];
}

const totalRows = [
  ['target rate', 'Mean rate that the schedule asked for, in events per second.', g => `${rate(g.targetRate)}/s`],
  ['achieved rate', 'Mean rate of publishing, in events per second.', g => `${rate(g.achievedRate)}/s`],
  ['due', 'Events that the schedule has asked for.', g => count(g.due)],
  ['published', 'Events that were handed to the broker.', g => count(g.published)],
  ['missed', 'Events that were due but never attempted.', g => count(g.missed), g => g.missed > 0],
  ['starved', 'Exits that were not published because no parked vehicle was available.', g => count(g.starved)],
];

export class Totals {
  constructor(table) {
    this.rows = totalRows.map(([label, meaning, of, bad]) => {
      const heading = element('th', '', term(label, meaning)), cells = [element('td', 'number'), element('td', 'number')];
      heading.scope = 'row';
      table.append(element('tr', '', heading, ...cells));
      return {of, bad, cells};
    });
  }

  show({entry, exit}) {
    for (const {of, bad, cells} of this.rows) {
      [entry, exit].forEach((g, i) => {
        set(cells[i], of(g));
        setClass(cells[i], 'bad', Boolean(bad?.(g)));
      });
    }
  }
}

const latencyColumns = [
  ['p50', 'Half of the events took at most this long.'],
  ['p90', '90 % of the events took at most this long.'],
  ['p99', '99 % of the events took at most this long.'],
  ['mean', 'This is the arithmetic mean of all events.'],
  ['objective', 'The objective is the longest p99 with which the run passes.'],
];

export class Latencies {
  constructor(table) {
    for (const [label, meaning] of latencyColumns) {
      const heading = element('th', 'number', term(label, meaning));
      heading.scope = 'col';
      table.parentElement.tHead.rows[0].append(heading);
    }
    const row = (label, meaning) => {
      const heading = element('th', '', term(label, meaning)), cells = latencyColumns.map(() => element('td', 'number'));
      heading.scope = 'row';
      table.append(element('tr', '', heading, ...cells));
      return cells;
    };
    this.endToEnd = row('end to end', 'Time between the due time of an event and its effect, over the whole run.');
    this.processing = row('processing', 'Time that a processor needs for one event, over the whole run.');
  }

  show({objectives}, history) {
    for (const kind of ['endToEnd', 'processing']) {
      const h = history.distribution(kind), objective = objectives[`${kind}P99Seconds`], cells = this[kind];
      const values = [quantile(h, 0.5), quantile(h, 0.9), quantile(h, 0.99), mean(h)];
      values.forEach((v, i) => set(cells[i], seconds(v)));
      set(cells[4], objective > 0 ? seconds(objective) : '–');
      setClass(cells[2], 'bad', missed(values[2], objective));
    }
  }
}
