// Arrow keys, Page up and Page down, and Space move from slide to slide.
const all = [...document.querySelectorAll('section')];
const go = step => {
  const here = all.findIndex(s => s.getBoundingClientRect().bottom > innerHeight / 2);
  const next = all[Math.min(Math.max(here + step, 0), all.length - 1)];
  next.focus({preventScroll: true});
  next.scrollIntoView();
};
document.addEventListener('keydown', event => {
  if (event.target.closest('audio, summary')) return;  // a player has keys of its own
  const step = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, ' ': 1,
    ArrowLeft: -1, ArrowUp: -1, PageUp: -1}[event.key];
  if (step) { event.preventDefault(); go(step); }
});
