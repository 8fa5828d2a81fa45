// The live page: receives the events of the server and shows them.

import {Charts} from './charts.js';
import {bandsOf, FaultTable} from './faults.js';
import {Feed} from './feed.js';
import {History} from './history.js';
import {List, outages} from './marks.js';
import {clock} from './numbers.js';
import {Latencies, Ledger, set, Tiles, Totals} from './panels.js';

const $ = id => document.getElementById(id);

const history = new History();
let state = null, connected = false, notes = {marks: [], bands: [], selected: null}, pending = null;

const tiles = new Tiles($('tiles'));
const ledger = new Ledger($('ledger').tBodies[0], $('facts'));
const totals = new Totals($('totals').tBodies[0]);
const latencies = new Latencies($('latencies').tBodies[0]);
const charts = new Charts($('charts'), {history, marks: () => notes, objectives: () => state?.objectives});
const faults = new FaultTable($('faults-panel'), $('faults').tBodies[0]);
const list = new List($('marks'), $('no-marks'), mark => {
  notes.selected = mark;
  charts.changed();
});

const feed = new Feed('/v1/events', {
  state(next) {
    if (state && state.run !== next.run) {
      history.clear();
      feed.reset();
    }
    state = next;
    shade();
    schedule();
  },
  rows(rows) {
    history.add(rows);
    const marks = history.marks();
    notes = {...notes, marks, selected: marks.includes(notes.selected) ? notes.selected : null};
    shade();
    schedule();
  },
  connection(now) {
    if (now === connected) return;
    connected = now;
    showConnection();
  },
});

// shade shades the outages and faults in the charts.
function shade() {
  notes.bands = [...outages(notes.marks), ...bandsOf(state?.faults ?? [])];
  charts.changed();
}

// schedule shows everything in the next frame, however many events arrive until then.
function schedule() {
  pending ??= requestAnimationFrame(() => {
    pending = null;
    show();
  });
}

function show() {
  if (!state) return;
  showHeader();
  showConnection();
  showReasons();
  tiles.show(state, history);
  ledger.show(state.ledger);
  totals.show(state);
  latencies.show(state, history);
  faults.show(state.faults ?? [], state.startedAt);
  list.show(notes.marks);
  $('charts').dataset.rows = history.rows.length;
}

const phases = {running: 'running', draining: 'coming to rest', auditing: 'auditing', finished: 'finished'};

function showHeader() {
  const {outcome, final} = state.verdict;
  set($('name'), state.simulation);
  set($('phase'), phases[state.phase] ?? state.phase);
  set($('version'), state.version ? `parking ${state.version}` : '');
  const badge = $('verdict');
  badge.hidden = !outcome;
  set(badge, final ? outcome : outcome === 'FAIL' ? 'failing' : outcome);
  badge.className = `badge ${outcome === 'FAIL' ? 'bad' : 'good'}`;
  const elapsed = Math.max(0, (Date.parse(state.at) - Date.parse(state.startedAt ?? state.at)) / 1000);
  const total = state.durationSeconds, ran = total > 0 ? Math.min(elapsed, total) : elapsed;
  $('progress').hidden = !(total > 0);
  $('progress').value = state.phase === 'finished' || total === 0 ? 1 : ran / total;
  set($('elapsed'), total > 0 ? `${clock(ran)} of ${clock(total)}` : `${clock(ran)}, without end`);
  const title = `${outcome ? `${badge.textContent} – ` : ''}${state.simulation}`;
  if (document.title !== title) document.title = title;
}

function showReasons() {
  const box = $('reasons'), items = box.firstElementChild;
  box.hidden = state.verdict.reasons.length === 0;
  const reasons = state.verdict.reasons;
  if (items.children.length !== reasons.length) items.replaceChildren(...reasons.map(() => document.createElement('li')));
  reasons.forEach((reason, i) => set(items.children[i], reason));
}

function showConnection() {
  const finished = state?.phase === 'finished';
  const text = connected ? '' : finished ? 'the run has ended' : state ? 'reconnecting…' : 'connecting…';
  set($('connection'), text);
  $('connection').className = connected || finished ? '' : 'waiting';
}

// The period that the charts show.
const windows = [['1 min', 60], ['5 min', 300], ['15 min', 900], ['1 h', 3600], ['all', Infinity]];
for (const [label, length] of windows) {
  const choice = document.createElement('input'), text = document.createElement('label');
  Object.assign(choice, {type: 'radio', name: 'window', id: `window-${label.replace(' ', '-')}`, checked: length === 3600});
  choice.addEventListener('change', () => charts.show(length));
  text.htmlFor = choice.id;
  text.textContent = label;
  $('windows').append(choice, text);
}
charts.show(3600);

// The theme: the system's, light or dark.
const themes = ['system', 'light', 'dark'];
const root = document.documentElement;
function showTheme() {
  const theme = root.dataset.theme ?? 'system';
  set($('theme'), `Theme: ${theme}`);
  charts.recolor();
}
$('theme').addEventListener('click', () => {
  const next = themes[(themes.indexOf(root.dataset.theme ?? 'system') + 1) % themes.length];
  if (next === 'system') delete root.dataset.theme; else root.dataset.theme = next;
  try {
    localStorage.setItem('theme', next);
  } catch {
    // Storage is disabled: the choice lasts until the page is closed.
  }
  showTheme();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showTheme);
showTheme();

