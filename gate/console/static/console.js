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
