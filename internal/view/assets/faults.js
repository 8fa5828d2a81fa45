// The occurrences of faults: a table, and the bands in which they disturb the simulation.

import {clock, count, seconds} from './numbers.js';
import {set} from './panels.js';

const parse = time => (time ? Date.parse(time) / 1000 : null);

// bandsOf returns the time in which each fault is in effect, and the time after it until the simulation has recovered,
// in seconds. to is null while it lasts.
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

// columns are the text of each column, and whether it is a number.
const columns = [
  [fault => `${fault.fault}/${fault.number}`, false],
  [(fault, start) => clock(Math.max(0, fault.injectedAt && start ? parse(fault.injectedAt) - parse(start) : fault.atSeconds)), true],
  [fault => [`${fault.action} ${fault.target}`, ...(fault.hit ?? [])].join(' '), false],
  [fault => fault.outcome, false],
  [fault => seconds(fault.recoverySeconds), true],
  [fault => seconds(fault.peakP99Seconds), true],
  [fault => count(fault.peakBacklog), true],
  [fault => count(fault.injectedAt ? fault.redeliveries : null), true],
  [fault => count(fault.injectedAt ? fault.duplicatesSuppressed : null), true],
  [fault => (fault.outcome === 'Recovered' ? '' : fault.message), false],
];

// maxShown bounds the rows of the table: the latest occurrences.
const maxShown = 50;

// FaultTable shows the latest occurrences, the latest first.
export class FaultTable {
  constructor(panel, body) { Object.assign(this, {panel, body}); }

  show(faults, start) {
    this.panel.hidden = faults.length === 0;
    const latest = faults.slice(-maxShown).reverse();
    if (this.body.rows.length !== latest.length) this.body.replaceChildren(...latest.map(() => this.row()));
    latest.forEach((fault, i) => {
      const row = this.body.rows[i];
      columns.forEach(([text], k) => set(row.cells[k], text(fault, start)));
      row.cells[3].className = good.has(fault.outcome) ? '' : 'bad';
    });
  }

  row() {
    const row = document.createElement('tr');
    const names = this.body.parentElement.tHead.rows[0].cells;
    columns.forEach(([, isNumber], k) => {
      const cell = row.insertCell();
      cell.className = isNumber ? 'number' : '';
      cell.dataset.name = names[k].textContent; // for a narrow window, which shows no head
    });
    row.lastElementChild.className = 'wide';
    return row;
  }
}
