/* A blind listening test: pairs of a healthy and a broken machine in random order, and at the end the
   score beside that of the detectors on the same pairs. Written for notebooks/11_listening. */
(function () {
  "use strict";

  function shuffled(list) {
    const out = [...list];
    for (let i = out.length - 1; i > 0; i -= 1) {
      const j = Math.floor(Math.random() * (i + 1));
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  }

  function make(tag, parent, text = "", attributes = {}) {
    const node = parent.appendChild(document.createElement(tag));
    node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }

  function start(test) {
    const data = JSON.parse(test.querySelector("script").textContent);
    const stage = test.querySelector(".listening-stage");
    let order = [], place = 0, right = 0;

    function begin() {
      [order, place, right] = [shuffled(data.pairs), 0, 0];
      ask();
    }

    function ask() {
      const pair = order[place], clips = shuffled(["normal", "anomaly"]);
      stage.replaceChildren();
      const question = `Pair ${place + 1} of ${order.length}, ${pair.name}: which one is broken?`;
      make("p", stage, question, { class: "listening-question", tabindex: "-1" });
      const answers = ["A", "B"].map((letter, i) => {
        const card = make("div", stage, "", { class: "listening-clip" });
        make("audio", card, "", {
          controls: "", preload: "auto", src: pair[clips[i]], "aria-label": `clip ${letter}`,
        });
        const button = make("button", card, `${letter} is broken`, { type: "button" });
        button.addEventListener("click", () => tell(clips[i] === "anomaly", clips));
        return button;
      });
      function tell(good, sides) {
        right += good;
        answers.forEach((button) => { button.disabled = true; });
        const broken = sides[0] === "anomaly" ? "A" : "B";
        const verdict = `${good ? "Right" : "Not this time"}: ${broken} is broken. ${pair.note}`;
        const line = make("p", stage, verdict, { role: "status" });
        place += 1;
        const last = place === order.length;
        const next = make("button", line, last ? "Show the score" : "Next pair", { type: "button" });
        next.addEventListener("click", last ? finish : ask);
        next.focus();
      }
      if (place) stage.querySelector("p").focus();
    }

    function finish() {
      stage.replaceChildren();
      make("p", stage, "How many of the pairs were ordered rightly:", { tabindex: "-1" }).focus();
      const table = make("table", stage, "", { class: "table" });
      const count = order.length;
      const scores = [["you", right], ...data.detectors.map((name) => [
        name, order.reduce((sum, pair) => sum + pair.right[name], 0)])];
      for (const [name, score] of scores) {
        const row = make("tr", table);
        make("th", row, name, { scope: "row" });
        make("td", row, `${score} of ${count}`);
        make("td", row, `${Math.round((100 * score) / count)} %`);
      }
      make("p", stage, `Guessing finds half of them. Over many pairs this share is the AUC; ${count} `
        + "pairs are few, so a difference of one or two says little.");
      make("button", stage, "Once more", { type: "button" }).addEventListener("click", begin);
    }

    begin();
  }

  document.addEventListener("DOMContentLoaded", () => (
    document.querySelectorAll(".listening-test").forEach(start)));
})();
