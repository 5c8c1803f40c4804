/* A browser of single clips: filters and an order over a table whose rows open a card with spectrogram
   and sound. Without JavaScript table and cards stand below each other. Written for
   notebooks/33_training. */
(function () {
  "use strict";

  const FILTERS = ["machine", "ID", "domain", "cause", "label"];
  const ORDERS = [
    ["errors first", (a, b) => a.place - b.place],
    ["highest score first", (a, b) => b.score - a.score],
    ["lowest score first", (a, b) => a.score - b.score],
  ];

  function make(tag, parent, text = "", attributes = {}) {
    const node = parent.appendChild(document.createElement(tag));
    node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }

  function choice(parent, name, options) {
    const select = make("select", make("label", parent, `${name} `));
    options.forEach((option) => make("option", select, option));
    return select;
  }

  function start(browser) {
    const body = browser.querySelector("tbody"), cards = browser.querySelectorAll("figure");
    const names = [...browser.querySelectorAll("th")].map((cell) => cell.textContent);
    const clips = [...body.rows].map((row, place) => {
      const told = Object.fromEntries(names.map((name, i) => [name, row.cells[i].textContent]));
      const score = Number(told.score.replace("−", "-"));
      return { row, place, score, told, card: cards[place] };
    });
    const controls = make("div", browser, "", { class: "clip-controls" });
    browser.prepend(controls);
    const filters = FILTERS.filter((name) => names.includes(name)).map((name) => {
      const values = [...new Set(clips.map((clip) => clip.told[name]))].sort();
      const select = choice(controls, name, ["all", ...values]);
      select.parentNode.hidden = values.length < 2;
      return [name, select];
    });
    const order = choice(controls, "order", ORDERS.map(([name]) => name));
    const count = make("p", controls, "", { role: "status" });
    let open = clips[0];

    function show(clip) {
      open = clip;
      clips.forEach((other) => {
        other.card.hidden = other !== clip;
        if (other !== clip) other.card.querySelector("audio").pause();
        other.row.querySelector("button").setAttribute("aria-pressed", String(other === clip));
      });
    }

    function arrange() {
      const kept = clips.filter((clip) => filters.every(([name, select]) => (
        select.value === "all" || select.value === clip.told[name])));
      kept.sort(ORDERS[order.selectedIndex][1]);
      body.replaceChildren(...kept.map((clip) => clip.row));
      count.textContent = `${kept.length} of ${clips.length} clips`;
      if (kept.length && !kept.includes(open)) show(kept[0]);
    }

    clips.forEach((clip) => {
      const cell = clip.row.cells[0], number = cell.textContent;
      cell.textContent = "";
      make("button", cell, number, { type: "button", "aria-label": `Show clip ${number}` });
      clip.row.addEventListener("click", () => show(clip));
    });
    body.addEventListener("keydown", (event) => {
      const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
      const row = step && event.target.closest("tr")[step];
      if (!row) return;
      event.preventDefault();
      row.querySelector("button").focus();
      row.click();
    });
    controls.addEventListener("change", arrange);
    browser.classList.add("clip-browser-on");
    arrange();
    show(open);
  }

  document.addEventListener("DOMContentLoaded", () => (
    document.querySelectorAll(".clip-browser").forEach(start)));
})();
