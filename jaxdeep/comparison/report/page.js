"use strict";
(() => {
  const NARROW = 560, SHORT = 13, PRINTED = 680;
  const views = JSON.parse(document.getElementById("figures").textContent);
  const chips = [...document.querySelectorAll(".chip[data-candidate]")];
  const hidden = new Set();
  const coarse = matchMedia("(pointer: coarse)").matches; // a finger scrolls, and does not zoom
  let printing = false;

  const config = {
    displaylogo: false, responsive: false, doubleClickDelay: 400,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // none that would send the data anywhere
  };

  const selects = name => [...document.querySelectorAll(`select[data-for="${name}"]`)];
  const isHidden = mark => mark !== undefined && hidden.has(Number(mark));

  // The matrix without the rows and columns of hidden candidates.
  function withoutHidden(trace, layout, numbers) {
    const kept = numbers.map((_, i) => i).filter(i => !hidden.has(numbers[i]));
    for (const part of ["z", "text", "customdata"])
      trace[part] = kept.map(i => kept.map(j => trace[part][i][j]));
    for (const axis of [layout.xaxis, layout.yaxis]) {
      axis.ticktext = kept.map(i => axis.ticktext[i]);
      axis.tickvals = kept.map((_, k) => k);
    }
  }

  // Names that fit beside a narrow plot; they are written with entities.
  const letters = { "&lt;": "<", "&gt;": ">", "&amp;": "&" };
  const entities = { "<": "&lt;", ">": "&gt;", "&": "&amp;" };
  function short(text) {
    const whole = text.replace(/&(lt|gt|amp);/g, entity => letters[entity]);
    const cut = whole.length > SHORT ? whole.slice(0, SHORT - 6) + "…" + whole.slice(-5) : whole;
    return cut.replace(/[<>&]/g, letter => entities[letter]);
  }

  // What is chosen, of what is not hidden, for the width that there is.
  function figureOf(name, width) {
    const key = selects(name).map(select => select.value).join(",");
    const { data, layout, matrix } = structuredClone(views[name][key]);
    for (const trace of data) if (isHidden(trace.meta)) trace.visible = false;
    for (const note of layout.annotations || [])
      if (note.name !== undefined && isHidden(note.name)) note.visible = false;
    if (matrix) withoutHidden(data[0], layout, matrix);
    if (width < NARROW) {
      layout.font.size = 10;
      layout.showlegend = false; // the names at the top of the page are one, too
      layout.margin.l = Math.min(layout.margin.l, 90);
      layout.margin.r = Math.min(layout.margin.r, 90);
      for (const note of layout.annotations || []) {
        note.font = { ...note.font, size: 10 };
        note.text = short(note.text);
      }
      for (const axis of [layout.yaxis, layout.yaxis2, ...(matrix ? [layout.xaxis] : [])])
        if (axis && axis.ticktext) axis.ticktext = axis.ticktext.map(short);
    }
    layout.width = width;
    layout.dragmode = coarse ? false : "zoom";
    return { data, layout };
  }

  function draw(place) {
    const width = printing ? PRINTED : place.clientWidth;
    const { data, layout } = figureOf(place.dataset.view, width);
    return Plotly.react(place, data, layout, config);
  }

  const places = [...document.querySelectorAll(".plot")];
  const drawAll = () => Promise.all(places.map(draw));

  for (const select of document.querySelectorAll("select")) {
    const label = select.closest("label");
    const note = () => { label.dataset.chosen = select.selectedOptions[0].textContent; };
    note();
    select.addEventListener("change", () => {
      note();
      draw(places.find(place => place.dataset.view === select.dataset.for));
    });
  }

  function show() {
    for (const chip of chips) chip.setAttribute("aria-pressed", String(!isHidden(chip.dataset.candidate)));
    return drawAll();
  }
  for (const chip of chips) {
    const number = Number(chip.dataset.candidate);
    chip.addEventListener("click", event => {
      if (event.detail > 1) return; // the second of a double-click
      if (!hidden.delete(number)) hidden.add(number);
      show();
    });
    chip.addEventListener("dblclick", () => {
      for (const other of chips) hidden.add(Number(other.dataset.candidate));
      hidden.delete(number);
      show();
    });
  }
  document.querySelector(".chip.all").addEventListener("click", () => { hidden.clear(); show(); });

  let waiting = 0, width = window.innerWidth;
  addEventListener("resize", () => {
    if (window.innerWidth === width) return; // the address bar of a phone
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (!printing) drawAll(); }, 120);
  });
  const closed = [];
  addEventListener("beforeprint", () => {
    printing = true;
    for (const one of document.querySelectorAll("details:not([open])")) { closed.push(one); one.open = true; }
    drawAll();
  });
  addEventListener("afterprint", () => {
    printing = false;
    while (closed.length) closed.pop().open = false;
    drawAll();
  });
  window.reportDrawn = drawAll().then(() => places.length);
})();
