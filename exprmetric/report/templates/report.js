"use strict";
(() => { // pictures enlarge: click or Enter, arrow keys for the next, Escape to close
  const pictures = [...document.querySelectorAll("main figure img")];
  if (!pictures.length || !window.HTMLDialogElement) return;
  const make = (tag, parent) => parent.appendChild(document.createElement(tag));
  const light = make("dialog", document.body);
  light.className = "light";
  light.setAttribute("aria-label", "Enlarged picture");
  const large = document.createElement("img"), below = make("p", light);
  const button = (text, label, action) => {
    const made = make("button", below);
    made.type = "button";
    made.textContent = text;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", action);
  };
  let at = 0;
  const seen = () => pictures.filter((p) => p.offsetParent !== null);
  const show = (step) => {
    const all = seen();
    at = (at + step + all.length) % all.length;
    light.prepend(large); // not before there is something to show
    large.src = all[at].src;
    large.alt = all[at].alt;
    words.textContent = all[at].dataset.words || all[at].alt;
  };
  button("←", "Previous picture", () => show(-1));
  const words = make("span", below);
  words.className = "name";
  button("→", "Next picture", () => show(1));
  button("✕", "Close", () => light.close());
  const open = (picture) => { at = seen().indexOf(picture); show(0); light.showModal(); };
  for (const picture of pictures) {
    picture.classList.add("opens");
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.addEventListener("click", () => open(picture));
    picture.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(picture); }
    });
  }
  light.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(-1);
    if (event.key === "ArrowRight") show(1);
  });
  light.addEventListener("click", (event) => { if (event.target === light) light.close(); });
  light.addEventListener("close", () => { const all = seen(); if (all[at]) all[at].focus(); });
})();
(() => {
  const source = document.getElementById("data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const get = (id) => document.getElementById(id);
  const model = (item) => data.rows[item.dataset.i][0];
  const status = (item) => data.rows[item.dataset.i][1];
  const value = (item, column) => data.rows[item.dataset.i][2][column];

  // what can't be compared (a failed triplet has no score) stands last in both orders
  const byNumber = (of, sign) => (a, b) => {
    const x = of(a), y = of(b);
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  };

  const wanted = (item) => {
    const score = value(item, Number(get("score").value));
    const low = get("low").value, high = get("high").value, place = get("place").value;
    return (get("model").value === "*" || model(item) === get("model").value)
      && (get("status").value === "*" || status(item) === get("status").value)
      && (low === "" || (score !== null && score >= Number(low)))
      && (high === "" || (score !== null && score <= Number(high)))
      && (place === "" || !item.dataset.tags || item.dataset.tags.split("|").some((tag) => tag.startsWith(place)));
  };

  const show = (parent, compare) => {
    const items = [...parent.children];
    let count = 0;
    for (const item of items) {
      item.hidden = !wanted(item);
      count += item.hidden ? 0 : 1;
    }
    parent.append(...items.sort(compare));
    return count;
  };

  let column = null; // the table column that was clicked, and in which direction
  const apply = () => {
    const score = Number(get("score").value), order = get("order").value;
    const inInput = (a, b) => Number(a.dataset.i) - Number(b.dataset.i);
    const compare = order === "input" ? inInput : byNumber((item) => value(item, score), order === "high" ? -1 : 1);
    const cards = show(get("cards"), compare);
    const rows = show(get("rows"), column ? column.compare : compare);
    get("count").textContent = `${cards} of ${get("cards").children.length} pictured triplets and `
      + `${rows} of ${get("rows").children.length} rows of the table match`;
  };

  const byText = (index, sign) => (a, b) =>
    sign * a.cells[index].textContent.localeCompare(b.cells[index].textContent, undefined, { numeric: true });

  for (const head of document.querySelectorAll("th[data-column]")) {
    head.querySelector("button").addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of document.querySelectorAll("th[data-column]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const score = head.dataset.column === "" ? null : Number(head.dataset.column);
      column = { compare: score === null ? byText(head.cellIndex, sign) : byNumber((row) => value(row, score), sign) };
      apply();
    });
  }

  for (const id of ["model", "status", "score", "low", "high", "place", "order"]) {
    get(id).addEventListener("input", () => {
      if (id === "score" || id === "order") {
        column = null;
        for (const head of document.querySelectorAll("th[data-column]")) head.removeAttribute("aria-sort");
      }
      apply();
    });
  }
  get("landmarks").addEventListener("change", (event) =>
    document.body.classList.toggle("no-landmarks", !event.target.checked));
  apply();
})();
