// The page shows the meaning of a term while the button of the term has the focus, and while the pointer is on the button
// or on a number that the term explains. Screen readers read it.

const tip = document.getElementById('tip');
const meanings = new WeakMap(); // by button
let next = 0, hovered = [];

// term returns a button with a label whose meaning is shown on demand.
export function term(label, meaning) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'term';
  button.textContent = label;
  meanings.set(button, meaning);
  const description = document.createElement('span');
  description.id = `meaning-${next++}`;
  description.hidden = true;
  description.textContent = meaning;
  button.setAttribute('aria-describedby', description.id);
  for (const event of ['focus', 'click']) button.addEventListener(event, () => show([button], button));
  button.addEventListener('blur', hide);
  const both = document.createDocumentFragment();
  both.append(button, description);
  return both;
}

// termsOf returns the terms that explain what is under the pointer. A number in a table is explained by the nearest term
// before it in its row, and by the term in the head of its column.
function termsOf(target) {
  const button = target.closest('.term'), cell = target.closest('.panel td, .panel th');
  if (button) return [button];
  if (cell) {
    const before = [...cell.parentElement.cells].slice(0, cell.cellIndex + 1).map(c => c.querySelector('.term'));
    const head = cell.closest('tbody') && cell.closest('table').tHead.rows[0].cells[cell.cellIndex].querySelector('.term');
    return [before.findLast(Boolean), head].filter(Boolean);
  }
  const box = target.closest('.tile, .facts > div, .progress') ?? target.closest('.u-legend')?.closest('figure');
  return box ? [box.querySelector('.term')] : [];
}

// hover shows the meaning of what is under the pointer. It does nothing as long as that has the same meaning.
function hover(target) {
  const terms = target ? termsOf(target) : [];
  if (terms.length === hovered.length && terms.every((t, i) => t === hovered[i])) return;
  hovered = terms;
  if (terms.length > 0) show(terms, target.closest('td, th, dt, dd') ?? target); else hide();
}

function show(terms, beside) {
  tip.textContent = terms.map(t => meanings.get(t)).join(' ');
  tip.hidden = false;
  const at = beside.getBoundingClientRect(), margin = 8;
  const left = Math.min(at.left, innerWidth - tip.offsetWidth - margin);
  const below = at.bottom + 6, above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(margin, left)}px`;
  tip.style.top = `${below + tip.offsetHeight > innerHeight && above > 0 ? above : below}px`;
}

function hide() { tip.hidden = true; }

addEventListener('pointerover', event => hover(event.target));
document.documentElement.addEventListener('pointerleave', () => hover(null));
addEventListener('keydown', event => { if (event.key === 'Escape') hide(); });
addEventListener('scroll', () => {
  hovered = [];
  hide();
}, {passive: true, capture: true});
