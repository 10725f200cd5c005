// Fetches the page again every five seconds and puts its content in place of the old one. While a person types or has
// something unfolded, nothing is replaced. If no answer comes, the page says since when.
"use strict";
const EVERY_MS = 5000;
let answeredAt = new Date();

function isInUse(main) {
  const focused = document.activeElement;
  return main.querySelector("details.ask[open]") !== null || (main.contains(focused) && focused.tagName === "INPUT");
}

async function refresh() {
  const main = document.querySelector("main[data-live]");
  if (main === null || document.hidden || isInUse(main)) return;
  const silence = document.getElementById("silence");
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(8000) });
    if (answer.redirected) return location.reload();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector("main");
    if (fresh === null) return location.reload();
    if (isInUse(main)) return;
    main.replaceWith(document.adoptNode(fresh));
    document.title = page.title;
    answeredAt = new Date();
    silence.hidden = true;
  } catch {
    silence.textContent = `tunerd has not answered since ${answeredAt.toLocaleTimeString()}. What is shown here is old.`;
    silence.hidden = false;
  }
}

setInterval(refresh, EVERY_MS);
document.addEventListener("visibilitychange", refresh);
