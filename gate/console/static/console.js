// Keeps the numbers of a page fresh. Without it, loading the page again does the same.
"use strict";

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
      notFresh.textContent = `These numbers are of ${moment}Z: this node does not answer. It is asked again.`;
      notFresh.hidden = false;
    } finally {
      isAsking = false;
    }
  }

  setInterval(refresh, Number(live.dataset.everyMs));
  document.addEventListener("visibilitychange", refresh);
})();
