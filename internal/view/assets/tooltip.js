// The meaning of a term: shown while its button has the focus or is under the pointer, and read by screen readers.

const tip = document.getElementById('tip');
let next = 0, shown = null;

// term returns a button with a label whose meaning is shown on demand.
export function term(label, meaning) {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'term';
  button.textContent = label;
  const description = document.createElement('span');
  description.id = `meaning-${next++}`;
  description.hidden = true;
  description.textContent = meaning;
  button.setAttribute('aria-describedby', description.id);
  for (const event of ['pointerenter', 'focus', 'click']) button.addEventListener(event, () => show(button, meaning));
  for (const event of ['pointerleave', 'blur']) button.addEventListener(event, hide);
  const both = document.createDocumentFragment();
  both.append(button, description);
  return both;
}

function show(button, meaning) {
  shown = button;
  tip.textContent = meaning;
  tip.hidden = false;
  const at = button.getBoundingClientRect(), margin = 8;
  const left = Math.min(at.left, innerWidth - tip.offsetWidth - margin);
  const below = at.bottom + 6, above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${Math.max(margin, left)}px`;
  tip.style.top = `${below + tip.offsetHeight > innerHeight && above > 0 ? above : below}px`;
}

function hide() {
  shown = null;
  tip.hidden = true;
}

addEventListener('keydown', event => { if (event.key === 'Escape' && shown) hide(); });
addEventListener('scroll', hide, {passive: true, capture: true});
