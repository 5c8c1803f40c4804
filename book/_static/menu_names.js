/* The theme's switches that unfold the menu show only an arrow. Name them for screen readers. */
(function () {
  "use strict";
  function name() {
    document.querySelectorAll("nav.bd-links details > summary").forEach((summary) => {
      const entry = summary.closest("li");
      const link = entry && entry.querySelector(":scope > a");
      const title = link ? link.textContent.trim() : "this part";
      summary.setAttribute("aria-label", `Pages below ${title}`);
    });
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", name);
  else name();
})();
