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

(() => {
  const live = document.getElementById("live");
  const notFresh = document.getElementById("not-fresh");
  if (live === null || notFresh === null) return;
  const PATIENCE_MS = 10000;
  let isAsking = false;
  let freshAt = new Date();

  async function refresh() {
    if (document.hidden || isAsking) return;
    isAsking = true;
    try {
      const answer = await fetch(live.dataset.source, {
        cache: "no-store",
        redirect: "manual",
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      if (answer.type === "opaqueredirect") {
        location.reload(); // signed out: the page itself leads to the form
        return;
      }
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      live.innerHTML = await answer.text();
      freshAt = new Date();
      notFresh.hidden = true;
    } catch {
      const moment = freshAt.toISOString().slice(0, 19).replace("T", " ");
      notFresh.textContent = notFresh.dataset.text.replace("{moment}", `${moment}Z`);
      notFresh.hidden = false;
    } finally {
      isAsking = false;
    }
  }

  setInterval(refresh, Number(live.dataset.everyMs));
  document.addEventListener("visibilitychange", refresh);
})();
