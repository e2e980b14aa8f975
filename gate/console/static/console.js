// Keeps the numbers of a page fresh, and counts down. Without it, loading the page again does the same.
"use strict";

// Each `<time data-until>` is followed by how long it is until then, in the language of the page.
(() => {
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const language = document.documentElement.lang;

  function inWords(seconds) {
    const parts = [];
    for (const [unit, length] of UNITS) {
      const count = Math.floor(seconds / length);
      seconds -= count * length;
      if (count > 0 || (parts.length === 0 && unit === "second")) {
        parts.push(new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short" }).format(count));
      }
      if (parts.length === 2) break; // "3 days 4 hr" is exact enough
    }
    return parts.join(" ");
  }

  function countDown() {
    for (const moment of document.querySelectorAll("time[data-until]")) {
      let left = moment.nextElementSibling;
      if (left === null || !left.classList.contains("left")) {
        left = document.createElement("small");
        left.className = "left";
        moment.after(" ", left);
      }
      left.textContent = `(${inWords(Math.max(0, Math.round((Number(moment.dataset.until) - Date.now()) / 1000)))})`;
    }
  }

  countDown();
  setInterval(countDown, 1000);
})();

// A search among millions answers before it has looked at all. It goes on by itself until the page is full; its link does the same.
(async () => {
  const ROWS_A_PAGE = 50;
  let found = document.getElementById("found");
  while (found !== null && found.dataset.goesOn) {
    const answer = await fetch(found.dataset.goesOn, { cache: "no-store", redirect: "manual" }).catch(() => null);
    if (answer === null || !answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = page.getElementById("found");
    if (next === null) return;
    const table = found.querySelector("table");
    const rows = next.querySelector("tbody");
    if (table !== null && rows !== null) rows.prepend(...table.tBodies[0].rows);
    else if (table !== null) next.querySelector(".empty")?.replaceWith(table);
    if (next.querySelectorAll("tbody tr").length >= ROWS_A_PAGE) delete next.dataset.goesOn;
    found.replaceWith(next);
    found = next;
  }
})();

// The parts of `[data-live]` follow a stream of server-sent events. A hidden tab closes its stream: a browser opens six
// connections to a host at most.
(() => {
  const live = document.querySelector("[data-live]");
  const stale = document.querySelector(".stale");
  if (live === null || stale === null) return;
  const AGAIN_MS = 5000;
  const parts = [...live.querySelectorAll("[data-part]")];
  let source = null;
  let again = 0;
  let freshAt = new Date();

  function renew(part, html) {
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const opened = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
    part.innerHTML = html;
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    if (focused !== "") document.getElementById(focused)?.focus({ preventScroll: true });
    document.dispatchEvent(new CustomEvent("renewed", { detail: part }));
  }

  function heard() {
    freshAt = new Date();
    stale.hidden = true;
  }

  function lost() {
    stale.textContent = stale.dataset.text.replace("{moment}", `${freshAt.toISOString().slice(0, 19).replace("T", " ")}Z`);
    stale.hidden = false;
    if (source.readyState === EventSource.CLOSED) {
      // Refused: a browser does not try again by itself then.
      clearTimeout(again);
      again = setTimeout(open, AGAIN_MS);
    }
  }

  function open() {
    close();
    source = new EventSource(live.dataset.live);
    source.onopen = heard;
    source.onerror = lost;
    source.addEventListener("end", () => location.reload()); // signed out: the page itself leads to the form
    for (const part of parts) {
      source.addEventListener(part.id, (event) => {
        renew(part, event.data);
        heard();
      });
    }
  }

  function close() {
    clearTimeout(again);
    source?.close();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  if (!document.hidden) open();
})();

// Charts: the values under the pointer; and for the keyboard, each box is a slider over the moments of its samples.
(() => {
  const language = document.documentElement.lang;

  function linesOf(chart) {
    return [...chart.querySelectorAll("path[data-values]")]
      .reverse() // the first line is drawn last
      .map((path) => ({ name: path.dataset.name, unit: path.dataset.unit, values: path.dataset.values.split(";") }));
  }

  function timesOf(chart) {
    return chart.dataset.times === "" ? [] : chart.dataset.times.split(",").map(Number);
  }

  function show(chart, nth) {
    const times = timesOf(chart);
    const box = chart.querySelector("svg.box");
    if (nth < 0 || nth >= times.length) return;
    const moment = new Date(times[nth]).toISOString().slice(11, 19);
    const values = linesOf(chart)
      .filter((line) => line.values[nth] !== "")
      .map((line) => `${line.name} ${line.values[nth]}${line.unit}`);
    const text = `${moment}Z  ${values.join(language.startsWith("zh") ? "，" : ", ")}`;
    let readout = chart.querySelector(".readout");
    if (readout === null) {
      readout = document.createElement("p");
      readout.className = "readout";
      readout.setAttribute("aria-hidden", "true"); // the slider says the same
      chart.querySelector("svg.across").after(readout);
    }
    readout.textContent = text;
    let cursor = box.querySelector(".cursor");
    if (cursor === null) {
      cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
      cursor.setAttribute("class", "cursor");
      cursor.setAttribute("y1", "0");
      cursor.setAttribute("y2", "100%");
      box.append(cursor);
    }
    const { from, to } = chart.dataset;
    const place = `${Math.min(100, ((times[nth] - from) * 100) / (to - from))}%`;
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    box.setAttribute("aria-valuenow", String(nth));
    box.setAttribute("aria-valuetext", text);
  }

  function nearest(chart, event) {
    const area = chart.querySelector("svg.box").getBoundingClientRect();
    const { from, to } = chart.dataset;
    const at = Number(from) + ((event.clientX - area.left) / area.width) * (to - from);
    let found = -1;
    timesOf(chart).forEach((time, nth, times) => {
      if (found < 0 || Math.abs(time - at) < Math.abs(times[found] - at)) found = nth;
    });
    return found;
  }

  function prepare(root) {
    for (const chart of root.querySelectorAll(".chart[data-times]")) {
      const box = chart.querySelector("svg.box");
      const last = timesOf(chart).length - 1;
      if (last < 0) continue;
      box.setAttribute("role", "slider");
      box.setAttribute("tabindex", "0");
      box.setAttribute("aria-valuemin", "0");
      box.setAttribute("aria-valuemax", String(last));
      box.setAttribute("aria-valuenow", String(last));
      box.setAttribute("aria-valuetext", box.getAttribute("aria-label"));
    }
  }

  document.addEventListener("pointermove", (event) => {
    const chart = event.target.closest?.("svg.box")?.closest(".chart[data-times]");
    if (chart) show(chart, nearest(chart, event));
  });
  document.addEventListener("keydown", (event) => {
    const box = event.target.closest?.("svg.box[role=slider]");
    if (!box) return;
    const chart = box.closest(".chart");
    const last = timesOf(chart).length - 1;
    const now = Number(box.getAttribute("aria-valuenow"));
    const steps = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, Home: 0, End: last };
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(chart, Math.max(0, Math.min(last, steps[event.key])));
  });
  document.addEventListener("renewed", (event) => prepare(event.detail));
  prepare(document);
})();
