"use strict";
// What the pages do beyond htmx: the live tape, keys, pause, choosing rows. No state of its own.
(() => {
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  let paused = false;

  // --- what is live -----------------------------------------------------------------------------

  // What a person has opened stays open, and what is chosen stays chosen.
  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(name === "open" && node.tagName === "DETAILS") && !(name === "aria-pressed");
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old, fresh) => {
    if (old.nodeType === 1 && fresh.nodeType === 1 && old.classList.contains("here")) {
      fresh.classList.add("here");
    }
  };

  const polls = (event) => event.detail.elt.matches("#live, #life");
  const chosen = () => all('input[name="id"]:checked').length;

  document.addEventListener("htmx:beforeRequest", (event) => {
    const timed = !event.detail.requestConfig.triggeringEvent;
    if (timed && polls(event) && (paused || document.hidden || chosen())) {
      event.preventDefault();
    }
  });
  document.addEventListener("htmx:afterSwap", () => { showPause(); showChosen(); });
  document.addEventListener("htmx:sendError", () => tell("the server does not answer"));
  document.addEventListener("htmx:responseError", (event) => tell(`not up to date: ${event.detail.xhr.status}`));

  function showPause() {
    for (const button of all("[data-pause]")) {
      button.setAttribute("aria-pressed", String(paused));
      button.textContent = paused ? "Go on" : "Pause";
    }
  }
  function pause(on) {
    paused = on;
    showPause();
    if (!paused) flush();
  }

  // --- the live tape ----------------------------------------------------------------------------

  const MOST = 2000;  // rows that stay in the page
  const SOON = 2000;  // milliseconds
  let waiting = [];
  let flushing = false;

  function tell(text) {
    const link = one("#link");
    if (link) link.textContent = text;
  }

  function flush() {
    flushing = false;
    const rows = one("#rows");
    if (!rows || paused) return;
    const came = waiting;
    waiting = [];
    const atEnd = rows.scrollHeight - rows.scrollTop - rows.clientHeight < 60;
    rows.insertAdjacentHTML("beforeend", came.join(""));
    while (rows.children.length > MOST) rows.firstElementChild.remove();
    if (atEnd) rows.scrollTop = rows.scrollHeight;
    sift();
    if (one("li.final", rows)) {
      tell("ended");
      document.body.dispatchEvent(new Event("ended"));
    }
  }

  function follow(rows) {
    const path = rows.dataset.follow;
    let last = Number(rows.dataset.after);
    let ended = false;
    const open = () => {
      const source = new EventSource(`${path}?after=${last}`);
      source.addEventListener("open", () => tell("live"));
      source.addEventListener("row", (event) => {
        const seq = Number(event.lastEventId);
        if (seq <= last) return;
        last = seq;
        waiting.push(event.data);
        if (event.data.includes(' final"')) { ended = true; source.close(); }
        if (!flushing) { flushing = true; setTimeout(flush, 60); }
      });
      source.addEventListener("trouble", (event) => tell(JSON.parse(event.data).detail));
      source.addEventListener("error", () => {
        if (ended) return;
        tell("the connection is lost; trying again");
        if (source.readyState === EventSource.CLOSED) setTimeout(open, SOON);
      });
    };
    open();
  }

  // --- search, and choosing ---------------------------------------------------------------------

  function sift() {
    const field = one("[data-sift]");
    if (!field) return;
    const text = field.value.toLowerCase();
    for (const row of all("#rows > li")) {
      row.classList.toggle("aside", text !== "" && !row.textContent.toLowerCase().includes(text));
    }
  }

  function showChosen() {
    const said = one("[data-chosen]");
    if (said) said.textContent = chosen() ? `${chosen()} chosen; the list waits` : "";
  }

  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-sift]")) sift();
    if (event.target.name === "id") showChosen();
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-pause]")) pause(!paused);
    if (event.target.closest("[data-help]")) one("#help").showModal();
    if (event.target.closest("[data-choose-all]")) {
      const boxes = all('input[name="id"]');
      const on = boxes.some((box) => !box.checked);
      for (const box of boxes) box.checked = on;
      showChosen();
    }
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id === "bulk" && !chosen()) {
      event.preventDefault();
      one("[data-chosen]").textContent = "Choose tasks first.";
    }
    if (event.target.matches(".filters")) {  // a URL has only the filters that are set
      for (const field of event.target.elements) if (!field.value) field.disabled = true;
    }
  });
  window.addEventListener("pageshow", () => {
    for (const field of all(".filters :disabled")) field.disabled = false;
    showChosen();
  });

  // --- keys -------------------------------------------------------------------------------------

  const PLACES = { o: "/", t: "/tasks", s: "/schedules", w: "/workers" };
  let went = 0;  // when "g" was pressed

  function move(by) {
    const rows = all("[data-row]");
    if (!rows.length) return;
    const now = rows.findIndex((row) => row.classList.contains("here"));
    const next = rows[Math.min(Math.max(now + by, 0), rows.length - 1)];
    for (const row of rows) row.classList.toggle("here", row === next);
    next.scrollIntoView({ block: "nearest" });
    (one("[data-open]", next) || one("summary", next) || next).focus({ preventScroll: true });
  }

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
    if (event.key === "Escape" && typing) event.target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
    if (went && Date.now() - went < 1500 && PLACES[event.key]) {
      const home = one(".brand").getAttribute("href");
      location.assign(home.replace(/\/$/, "") + PLACES[event.key]);
      return;
    }
    went = event.key === "g" ? Date.now() : 0;
    const box = one('.here input[name="id"]');
    const acts = {
      "/": () => one("#find")?.focus(),
      "?": () => one("#help").showModal(),
      j: () => move(1),
      k: () => move(-1),
      p: () => pause(!paused),
      x: () => { if (box) { box.checked = !box.checked; showChosen(); } },
    };
    if (acts[event.key]) {
      event.preventDefault();
      acts[event.key]();
    }
  });

  // A link to one event opens it; else a tape is seen from its end.
  function showEvent() {
    const row = document.getElementById(location.hash.slice(1));
    if (!row?.classList.contains("event")) return false;
    one("details", row)?.setAttribute("open", "");
    row.scrollIntoView({ block: "center" });
    return true;
  }
  window.addEventListener("hashchange", showEvent);

  const rows = one("#rows");
  if (!showEvent() && rows) rows.scrollTop = rows.scrollHeight;
  if (rows?.dataset.follow) follow(rows);
})();
