// The live page: receives the events of the server and shows them.

import {Charts} from './charts.js';
import {bandsOf, FaultTable} from './faults.js';
import {Feed} from './feed.js';
import {History} from './history.js';
import {List, outages, union} from './marks.js';
import {clock, timeOfDay} from './numbers.js';
import {Latencies, Ledger, set, Tiles, Totals} from './panels.js';
import {term} from './tooltip.js';

const $ = id => document.getElementById(id);

const history = new History();
// heard.state and heard.rows are the times, by the clock of this machine, at which the latest events of these names
// arrived. heard.at is the time, by the clock of the server, of the state that preceded the latest rows.
const heard = {state: 0, rows: 0, at: null};
let state = null, connected = false, notes = {marks: [], bands: [], selected: null}, pending = null;

const tiles = new Tiles($('tiles'));
const ledger = new Ledger($('ledger').tBodies[0], $('facts'));
const totals = new Totals($('totals').tBodies[0]);
const latencies = new Latencies($('latencies').tBodies[0]);
const charts = new Charts($('charts'), {history, marks: () => notes, objectives: () => state?.objectives});
const faults = new FaultTable($('faults-panel'), $('faults').tBodies[0]);
$('progress-term').append(term('Elapsed', 'Time since the schedules began, and how long they last. The verdict follows when all events are processed.'));
const list = new List($('marks'), $('no-marks'), $('all-marks'), mark => {
  notes.selected = mark;
  charts.changed();
});

const feed = new Feed('v1/events', {
  state(next) {
    if (state && state.run !== next.run) {
      history.clear();
      feed.reset();
    }
    state = next;
    heard.state = Date.now();
    shade();
    schedule();
  },
  rows(rows) {
    Object.assign(heard, {rows: Date.now(), at: state.at});
    history.add(rows, state.phase === 'finished' ? null : Date.parse(state.at) / 1000);
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
  notes.bands = union([...outages(notes.marks), ...bandsOf(state?.faults ?? [])]);
  $('key').hidden = notes.bands.length === 0 && notes.marks.length === 0;
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
  ledger.show(state);
  totals.show(state);
  latencies.show(state, history);
  faults.show(state.faults ?? [], state.startedAt);
  list.show(notes.marks);
  $('charts').dataset.rows = history.measured;
}

const phases = {running: 'running', draining: 'draining', auditing: 'auditing', finished: 'finished'};

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

// patience is how many milliseconds after the latest event the page says that its data is old.
const patience = 5_000;

function showConnection() {
  const finished = state?.phase === 'finished', old = connected && !finished && age();
  set($('connection'), old || (connected ? '' : finished ? 'the run has ended' : state ? 'reconnecting…' : 'connecting…'));
  $('connection').className = old || !(connected || finished) ? 'waiting' : '';
}
setInterval(showConnection, 1_000);

// age says since when there is no data, although the server answers: it cannot read the state, or the timeline.
function age() {
  if (!heard.at || Date.now() - heard.rows <= patience) return '';
  const what = Date.now() - heard.state > patience ? 'data' : 'measurements';
  return `no ${what} since ${timeOfDay(new Date(heard.at))}`;
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

