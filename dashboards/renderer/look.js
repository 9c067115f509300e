// What a reader of the page can see, as facts for the lint: all of it from the DOM, none from pixels.

const boxOf = (element) => {
  const { left, top, width, height } = element.getBoundingClientRect();
  return { left, top, width, height };
};

// The nearest ancestor that hides what is larger than itself, within the panel.
function findFrame(element, panel) {
  for (let outer = element.parentElement; outer && outer !== panel; outer = outer.parentElement) {
    if (/auto|scroll|hidden/.test(getComputedStyle(outer).overflowY)) return outer;
  }
  return panel;
}

function isInside(inner, outer) {
  return inner.left >= outer.left - 1 && inner.top >= outer.top - 1
    && inner.left + inner.width <= outer.left + outer.width + 1
    && inner.top + inner.height <= outer.top + outer.height + 1;
}

function readSeries(icon, panel) {
  const name = icon.nextElementSibling;
  const row = icon.closest('tr') ?? icon.parentElement;
  const style = getComputedStyle(icon);
  const cut = name.scrollWidth > name.clientWidth + 1 && name.clientWidth > 0;
  return {
    name: name.textContent.trim(),
    colour: style.backgroundColor,
    dashed: style.backgroundImage.includes('gradient'),
    shown: isInside(boxOf(row), boxOf(findFrame(row, panel))) && !cut,
    values: [...row.querySelectorAll('td')].slice(1).map((cell) => cell.textContent),
  };
}

function readPanel(panel) {
  const content = panel.querySelector('table');
  const empty = panel.querySelector('[data-empty]');
  return {
    title: panel.dataset.panel,
    kind: panel.dataset.kind,
    box: boxOf(panel),
    error: panel.querySelector('[data-error]')?.textContent ?? '',
    empty: empty?.textContent ?? '',
    reason: empty?.dataset.empty === 'said',
    series: [...panel.querySelectorAll('[data-testid="series-icon"]')].map((icon) => readSeries(icon, panel)),
    columns: panel.dataset.kind === 'table' ? [...panel.querySelectorAll('th')].map((cell) => cell.textContent) : [],
    rows: content && panel.dataset.kind === 'table' ? content.querySelectorAll('tbody tr').length : 0,
    cut: panel.dataset.kind === 'table' && content !== null && !isInside(boxOf(content), boxOf(panel)),
    text: panel.dataset.kind === 'stat' ? panel.innerText : '',
  };
}

// All panels, and what this theme makes of these names of colours.
export function look(theme, names) {
  const probe = document.createElement('i');
  document.body.append(probe);
  const colours = Object.fromEntries(names.map((name) => {
    probe.style.color = theme.visualization.getColorByName(name);
    return [name, getComputedStyle(probe).color];
  }));
  probe.remove();
  return { panels: [...document.querySelectorAll('[data-panel]')].map(readPanel), colours };
}
