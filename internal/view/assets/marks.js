// Events of note: lines on all charts, shaded outages, and a list.

import {timeOfDay} from './numbers.js';

const names = {
  started: 'started', stopped: 'stopped', unavailable: 'unavailable', available: 'available again',
  stage: 'stage', phase: 'phase', injected: 'fault injected', healed: 'fault ended', objective: 'objective missed',
};

const bad = new Set(['unavailable', 'injected', 'objective']);

export const isBad = mark => bad.has(mark.kind);

const text = mark => [mark.subject, mark.message || names[mark.kind] || mark.kind].filter(Boolean).join(': ');

export const secondsOf = mark => Date.parse(mark.at) / 1000;

// outages pairs each unavailable with the next available of the same subject. to is null while it lasts.
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

// plugin returns a uPlot plugin that draws the marks and bands that current returns: {marks, bands, selected}.
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
      ctx.moveTo(at - size, top);
      ctx.lineTo(at + size, top);
      ctx.lineTo(at, top + size * 1.5);
      ctx.fill();
    }
    ctx.restore();
  };
  return {hooks: {draw}};
}

// List shows the marks, the latest first. select(mark) is called for the mark under the pointer, and with null.
export class List {
  constructor(list, none, select) {
    Object.assign(this, {list, none, select, shown: 0});
  }

  show(marks) {
    this.none.hidden = marks.length > 0;
    this.list.hidden = marks.length === 0;
    if (marks.length < this.shown) {
      this.list.replaceChildren();
      this.shown = 0;
    }
    for (const mark of marks.slice(this.shown)) this.list.prepend(this.item(mark));
    this.shown = marks.length;
  }

  item(mark) {
    const item = document.createElement('li');
    if (isBad(mark)) item.className = 'bad';
    const time = document.createElement('time');
    time.dateTime = mark.at;
    time.textContent = timeOfDay(new Date(mark.at));
    item.append(time, ` ${text(mark)}`);
    item.addEventListener('pointerenter', () => this.select(mark));
    item.addEventListener('pointerleave', () => this.select(null));
    return item;
  }
}
