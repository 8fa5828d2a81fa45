// The occurrences of faults: a table, and the bands in which they disturb the simulation.

import {clock, count, seconds} from './numbers.js';
import {set} from './panels.js';
import {term} from './tooltip.js';

const parse = time => (time ? Date.parse(time) / 1000 : null);

// bandsOf returns the time in which each fault is in effect, and the time after it until the simulation has recovered,
// in seconds. While a band lasts, its end is null.
export function bandsOf(faults) {
  const bands = [];
  for (const fault of faults) {
    const injected = parse(fault.injectedAt), healed = parse(fault.healedAt), recovered = parse(fault.recoveredAt);
    if (injected == null) continue;
    bands.push({from: injected, to: healed, color: '--fault'});
    if (healed != null && (recovered == null || recovered > healed)) bands.push({from: healed, to: recovered, color: '--recovering'});
  }
  return bands;
}

const good = new Set(['Recovered', 'Injecting', 'Active', 'Recovering']);

// columns contains the name of each column, its meaning, its text, and its class.
const columns = [
  ['fault', 'Name of the fault, and which of its occurrences this is, counted from 0.', fault => `${fault.fault}/${fault.number}`, ''],
  ['at', 'Time from the start of the schedules until the fault took effect, or when it is due.',
    (fault, start) => clock(Math.max(0, fault.injectedAt && start ? parse(fault.injectedAt) - parse(start) : fault.atSeconds)), 'number'],
  ['action', 'What was done, to which component or server, and the instances that it hit.', fault => `${fault.action} ${fault.target}${fault.hit?.length ? ` (${fault.hit.join(', ')}${fault.hitOmitted ? ` and ${fault.hitOmitted} more` : ''})` : ''}`, 'text'],
  ['outcome', 'Whether the fault took effect, and whether the simulation has recovered from it.', fault => fault.outcome, ''],
  ['recovery', 'Time until latency and backlog were as before the fault.', fault => seconds(fault.recoverySeconds), 'number'],
  ['peak p99', 'Highest end-to-end p99 of one second, from the fault to the recovery.', fault => seconds(fault.peakP99Seconds), 'number'],
  ['peak backlog', 'Highest number of events that waited at one time, in the queues, a generator or a processor, from the fault to the recovery.', fault => count(fault.peakBacklog), 'number'],
  ['redelivered', 'Repeated deliveries of messages, from the fault to the recovery.', fault => count(fault.injectedAt ? fault.redeliveries : null), 'number'],
  ['duplicates', 'Deliveries of events that had taken effect before, from the fault to the recovery. They changed nothing.',
    fault => count(fault.injectedAt ? fault.duplicatesSuppressed : null), 'number'],
  ['message', 'Why the outcome is not Recovered.', fault => (fault.outcome === 'Recovered' ? '' : fault.message), 'wide'],
];

// maxShown bounds the rows of the table: the latest occurrences.
const maxShown = 50;

// FaultTable shows the latest occurrences, the latest first.
export class FaultTable {
  constructor(panel, body) {
    Object.assign(this, {panel, body});
    for (const [name, meaning, , className] of columns) {
      const heading = document.createElement('th');
      heading.scope = 'col';
      heading.className = className;
      heading.append(term(name, meaning));
      body.parentElement.tHead.rows[0].append(heading);
    }
  }

  show(faults, start) {
    this.panel.hidden = faults.length === 0;
    const latest = faults.slice(-maxShown).reverse();
    if (this.body.rows.length !== latest.length) this.body.replaceChildren(...latest.map(() => this.row()));
    latest.forEach((fault, i) => {
      const row = this.body.rows[i];
      columns.forEach(([, , text], k) => set(row.cells[k], text(fault, start)));
      row.cells[3].className = good.has(fault.outcome) ? '' : 'bad';
    });
  }

  row() {
    const row = document.createElement('tr');
    for (const [name, , , className] of columns) {
      const cell = row.insertCell();
      cell.className = className;
      cell.dataset.name = name; // for a narrow window, which shows no head
    }
    return row;
  }
}
