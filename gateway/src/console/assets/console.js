// Comfort for the console: pages work without it. It asks for the page again when the gateway says that something moved, copies
// commands, and puts nothing on the page that the gateway did not send as a page.
"use strict";
(() => {
  document.documentElement.classList.add("js");

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const code = button.parentElement.querySelector("code, pre");
    const name = button.textContent;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      // Without TLS there is no clipboard: the text is selected, to be copied by hand.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = name; }, 1500);
  });

  const address = document.body.dataset.live;
  if (!address) return;
  const bar = document.querySelector(".live");
  const pause = bar.querySelector("[data-pause]");
  const word = bar.querySelector("[role=status]");
  bar.hidden = false;
  let source = null, isPaused = false, isBusy = false, isStale = false;

  const isInUse = (region) => {
    const active = document.activeElement;
    const selection = getSelection();
    return (region.contains(active) && active.matches("input, textarea, select"))
      || (!selection.isCollapsed && region.contains(selection.anchorNode));
  };

  const swap = (region, fresh) => {
    if (region.innerHTML === fresh.innerHTML || isInUse(region)) return;
    const active = document.activeElement;
    const kept = region.contains(active) ? (active.id ? `#${CSS.escape(active.id)}` : `a[href="${CSS.escape(active.getAttribute("href") || "")}"]`) : null;
    region.replaceChildren(...document.importNode(fresh, true).childNodes);
    if (kept) region.querySelector(kept)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (isPaused || document.hidden) return;
    if (isBusy) { isStale = true; return; }
    isBusy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      if (answer.ok && !answer.redirected) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const region of document.querySelectorAll("[data-region]")) {
          const fresh = page.getElementById(region.id);
          if (fresh) swap(region, fresh);
        }
        word.textContent = "";
      } else {
        word.textContent = "The gateway did not send the page again: reload it.";
      }
    } catch {
      word.textContent = "The gateway does not answer.";
    } finally {
      isBusy = false;
      if (isStale) { isStale = false; setTimeout(refresh, 500); }
    }
  };

  const close = () => { source?.close(); source = null; };
  const open = () => {
    if (source || isPaused || document.hidden) return;
    source = new EventSource(address);
    source.onmessage = refresh;
    source.onerror = () => {
      if (source?.readyState !== EventSource.CLOSED) return;
      // Refused, because others follow already: the page is asked for again now and then instead.
      close();
      setTimeout(() => { refresh(); open(); }, 10000);
    };
  };

  pause.addEventListener("click", () => {
    isPaused = !isPaused;
    pause.textContent = isPaused ? "Resume updates" : "Pause updates";
    if (isPaused) { close(); } else { refresh(); open(); }
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { close(); } else { refresh(); open(); }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
})();
