// Events of note: lines on all charts, shaded outages, and a list. A cross marks a process that went down.

import {timeOfDay} from './numbers.js';
import {set} from './panels.js';

const names = {
  started: 'started', stopped: 'stopped', down: 'down', unavailable: 'unavailable', available: 'available again',
  stage: 'stage', phase: 'phase', injected: 'fault injected', healed: 'fault ended', objective: 'objective missed',
};

const bad = new Set(['down', 'unavailable', 'injected', 'objective']);

export const isBad = mark => bad.has(mark.kind);

const isDown = mark => mark.kind === 'down';

const text = mark => [isDown(mark) ? `${mark.subject} down` : mark.subject, mark.message || names[mark.kind] || mark.kind].filter(Boolean).join(': ');

export const secondsOf = mark => Date.parse(mark.at) / 1000;

// maxFew is the number of marks that the list shows at first.
const maxFew = 8;

// outages returns a band for each outage. An outage lasts from a mark "unavailable" to the next mark "available" of the
// same subject. While it lasts, the end of the band is null.
export function outages(marks) {
  const open = new Map(), all = [];
  for (const mark of marks) {
    if (mark.kind === 'unavailable' && !open.has(mark.subject)) {
      const outage = {from: secondsOf(mark), to: null, color: '--outage'};
      open.set(mark.subject, outage);
      all.push(outage);
    } else if (mark.kind === 'available' && open.has(mark.subject)) {
      open.get(mark.subject).to = secondsOf(mark);
      open.delete(mark.subject);
    }
  }
  return all;
}

// union joins bands of one color that overlap: drawn on top of each other, they would look like a band of another
// color.
export function union(bands) {
  const joined = [], last = new Map();
  for (const band of [...bands].sort((a, b) => a.from - b.from)) {
    const before = last.get(band.color);
    if (before && (before.to == null || band.from <= before.to)) {
      if (before.to != null) before.to = band.to == null ? null : Math.max(before.to, band.to);
      continue;
    }
    const copy = {...band};
    last.set(band.color, copy);
    joined.push(copy);
  }
  return joined;
}

// near is how close the pointer must be to a mark, in pixels, to show its tooltip.
const near = 5;

// plugin returns a uPlot plugin that draws marks and bands. The given function current returns them, as {marks, bands,
// selected}. A tooltip shows the texts of the marks under the pointer.
export function plugin(current, color) {
  const draw = u => {
    const {ctx, bbox: {left, top, width, height}} = u;
    const {marks, bands, selected} = current();
    const x = t => u.valToPos(t, 'x', true);
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    for (const {from, to, color: name} of bands) {
      const start = x(from);
      ctx.fillStyle = color(name);
      // A fault of an instant is visible, too.
      ctx.fillRect(start, top, Math.max((to == null ? left + width : x(to)) - start, devicePixelRatio), height);
    }
    for (const mark of marks) {
      const at = Math.round(x(secondsOf(mark))) + 0.5;
      if (at < left || at > left + width) continue;
      ctx.strokeStyle = ctx.fillStyle = color(isBad(mark) ? '--bad' : '--mark');
      ctx.lineWidth = (mark === selected ? 3 : 1) * devicePixelRatio;
      ctx.setLineDash(mark === selected ? [] : [3 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(at, top);
      ctx.lineTo(at, top + height);
      ctx.stroke();
      const size = 4 * devicePixelRatio;
      ctx.beginPath();
      if (isDown(mark)) {
        ctx.lineWidth = 2 * devicePixelRatio;
        ctx.setLineDash([]);
        ctx.moveTo(at - size, top);
        ctx.lineTo(at + size, top + size * 2);
        ctx.moveTo(at + size, top);
        ctx.lineTo(at - size, top + size * 2);
        ctx.stroke();
        continue;
      }
      ctx.moveTo(at - size, top);
      ctx.lineTo(at + size, top);
      ctx.lineTo(at, top + size * 1.5);
      ctx.fill();
    }
    ctx.restore();
  };
  const setCursor = u => {
    const {left} = u.cursor;
    const under = left < 0 ? [] : current().marks.filter(mark => Math.abs(u.valToPos(secondsOf(mark), 'x') - left) <= near);
    const title = under.map(mark => `${timeOfDay(new Date(mark.at))} ${text(mark)}`).join('\n');
    if (u.over.title !== title) u.over.title = title;
  };
  return {hooks: {draw, setCursor}};
}

// List shows the marks, the latest first. At first it shows only a few; the button shows all. The mark under the
// pointer is selected. While the list has the focus, the arrow keys select a mark. The list calls select with the mark
// that is selected, or with null if none is selected any more.
export class List {
  constructor(list, none, button, select) {
    Object.assign(this, {list, none, button, select, items: new Map(), current: null, showsAll: false});
    button.addEventListener('click', () => this.#toggle());
    list.addEventListener('keydown', event => {
      const next = {ArrowDown: this.current?.nextElementSibling ?? list.firstElementChild, ArrowUp: this.current?.previousElementSibling}[event.key];
      if (next) {
        event.preventDefault();
        this.#choose(next);
      }
    });
    list.addEventListener('blur', () => this.#choose(null));
  }

  #toggle() {
    this.showsAll = !this.showsAll;
    this.#fold();
  }

  // #fold hides all marks but the latest, unless the user wants to see all of them.
  #fold() {
    const items = [...this.list.children];
    items.forEach((item, i) => { item.hidden = !this.showsAll && i >= maxFew; });
    this.button.hidden = items.length <= maxFew;
    set(this.button, this.showsAll ? `Show the latest ${maxFew} events` : `Show all ${items.length} events`);
    this.button.setAttribute('aria-expanded', String(this.showsAll));
  }

  #choose(item) {
    if (item?.hidden) this.#toggle();
    this.current?.classList.remove('chosen');
    this.current = item;
    item?.classList.add('chosen');
    item?.scrollIntoView({block: 'nearest'});
    this.select(item?.mark ?? null);
  }

  // show updates the list. A new mark may be earlier than marks that are shown, because some marks become known late.
  // Items of marks that are already shown stay in the list, so that a chosen one stays chosen.
  show(marks) {
    this.none.hidden = marks.length > 0;
    this.list.hidden = marks.length === 0;
    const before = this.items, sorted = [...marks].sort((a, b) => secondsOf(a) - secondsOf(b));
    this.items = new Map(sorted.map(mark => {
      const key = JSON.stringify(mark), item = before.get(key) ?? this.item(mark);
      item.mark = mark; // a row that is sent again has equal marks
      return [key, item];
    }));
    for (const [key, item] of before) if (!this.items.has(key)) item.remove();
    if (!this.current?.isConnected) this.current = null;
    let next = null;
    for (const item of this.items.values()) {
      if (item.nextElementSibling !== next || item.parentElement !== this.list) this.list.insertBefore(item, next);
      next = item;
    }
    this.#fold();
  }

  item(mark) {
    const item = document.createElement('li');
    item.className = [isBad(mark) && 'bad', isDown(mark) && 'down'].filter(Boolean).join(' ');
    const time = document.createElement('time');
    time.dateTime = mark.at;
    time.textContent = timeOfDay(new Date(mark.at));
    item.append(time, ` ${text(mark)}`);
    item.addEventListener('pointerenter', () => this.select(item.mark));
    item.addEventListener('pointerleave', () => this.select(null));
    return item;
  }
}
