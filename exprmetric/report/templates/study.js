"use strict";
(() => {
  const get = (id) => document.getElementById(id);
  const study = JSON.parse(get("study").textContent);
  const PLACE = `exprmetric study ${study.study}`;
  const WAIT = 250; // ms in which a second tap isn't meant for the next question
  const ASK = {
    odd: "Which face has the expression that differs most from the other two?",
    pair: "How alike are the expressions of these two faces?",
    name: "Which expression does this face show?",
  };

  // --- what is kept in this browser ---

  const fresh = () => {
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    const rater = [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
    return { rater, code: "", started: new Date().toISOString(), answers: {} };
  };
  const known = (state) => state && typeof state.rater === "string" && typeof state.code === "string"
    && state.answers && typeof state.answers === "object";
  const recall = () => {
    try {
      const state = JSON.parse(localStorage.getItem(PLACE));
      return known(state) ? state : null;
    } catch { return null; }
  };
  const keep = () => {
    try { localStorage.setItem(PLACE, JSON.stringify(state)); return true; } catch { return false; }
  };
  const before = recall();
  let state = before || fresh();

  // --- an order of questions and of faces for each person, the same after a break ---

  const random = (seed) => () => { // mulberry32
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const shuffled = (items, chance) => {
    const all = [...items];
    for (let i = all.length - 1; i > 0; i--) {
      const j = Math.floor(chance() * (i + 1));
      [all[i], all[j]] = [all[j], all[i]];
    }
    return all;
  };
  let order = [];
  const arrange = () => {
    const chance = random(parseInt(state.rater.slice(0, 8), 16) || 1);
    order = ["odd", "pair", "name"].flatMap((kind) => shuffled(study.questions.filter((q) => q.kind === kind), chance))
      .map((q) => ({ ...q, places: shuffled(q.pictures.map((_, i) => i), chance) }));
  };
  arrange();

  // --- what is seen ---

  let at = 0, since = 0;
  const answered = () => order.filter((q) => q.id in state.answers).length;
  const show = (id) => { for (const s of ["start", "ask", "end"]) get(s).hidden = s !== id; };
  const make = (tag, parent, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const button = (parent, value, chosen) => {
    const made = make("button", parent);
    made.type = "button";
    made.dataset.value = value;
    made.setAttribute("aria-pressed", String(chosen));
    made.addEventListener("click", () => answer(value));
    return made;
  };
  const face = (parent, key, alt) => {
    const image = make("img", parent);
    image.src = study.pictures[key];
    image.alt = alt;
    image.width = image.height = 224;
    return image;
  };

  const ask = () => {
    const q = order[at], given = state.answers[q.id];
    const faces = get("faces"), answers = get("answers");
    faces.replaceChildren();
    answers.replaceChildren();
    faces.className = `n${q.pictures.length}`;
    answers.className = { odd: "", pair: "scale", name: "names" }[q.kind];
    get("question").textContent = ASK[q.kind];
    get("count").textContent = `Question ${at + 1} of ${order.length}`;
    get("progress").max = order.length;
    get("progress").value = answered();
    q.places.forEach((place, i) => {
      if (q.kind === "odd") {
        const choice = button(faces, place, Boolean(given) && given.value === place);
        face(choice, q.pictures[place], `face ${i + 1}`);
        make("kbd", make("span", choice), String(i + 1));
      } else face(faces, q.pictures[place], q.pictures.length > 1 ? `face ${i + 1}` : "the face");
    });
    const words = { odd: [], pair: study.scale, name: study.names }[q.kind];
    words.forEach((word, i) => {
      const value = q.kind === "pair" ? i + 1 : i;
      const choice = button(answers, value, Boolean(given) && given.value === value);
      make("kbd", choice, String(i + 1));
      make("span", choice, word);
    });
    get("keys").textContent = `Keys: 1 to ${words.length || q.pictures.length}, and ← for back`;
    get("back").disabled = at === 0;
    show("ask");
    get("question").focus({ preventScroll: true });
    window.scrollTo(0, 0);
    since = performance.now();
  };

  const answer = (value) => {
    const spent = performance.now() - since;
    if (spent < WAIT) return;
    state.answers[order[at].id] = { value, seconds: Math.round(spent / 100) / 10 };
    keep();
    at += 1;
    if (at < order.length) ask(); else finish();
  };

  const file = () => JSON.stringify({
    schema_version: study.schema_version, study: study.study, rater: state.rater, code: state.code,
    started: state.started, saved: new Date().toISOString(), answers: state.answers,
  });

  const finish = () => {
    const open = order.length - answered();
    get("ended").textContent = open ? "You can stop here" : "Thank you, that was the last question";
    get("left").textContent = open
      ? `${answered()} of ${order.length} questions are answered. Go on now, or save what there is: this browser keeps your answers, so that you can go on later.`
      : `All ${order.length} questions are answered. Save the file, and send it to whoever asked you.`;
    get("on").hidden = !open;
    get("saved").textContent = "";
    get("text").value = file();
    show("end");
    get("ended").focus();
  };

  const save = () => {
    const link = document.createElement("a");
    const address = URL.createObjectURL(new Blob([file()], { type: "application/json" }));
    link.href = address;
    link.download = `answers-${state.rater}.json`;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
    get("saved").textContent = `Saved as ${link.download}, where your browser puts downloads.`;
  };

  const resume = () => {
    const open = order.findIndex((q) => !(q.id in state.answers));
    if (open < 0) { finish(); return; }
    at = open;
    ask();
  };

  // --- what is pressed ---

  const back = () => { if (at > 0) { at -= 1; ask(); } };
  get("go").addEventListener("click", () => {
    state.code = get("code").value.trim();
    keep();
    resume();
  });
  get("back").addEventListener("click", back);
  get("stop").addEventListener("click", finish);
  get("on").addEventListener("click", resume);
  get("save").addEventListener("click", save);
  get("forget").addEventListener("click", () => {
    state = fresh();
    keep();
    arrange();
    begin(false);
  });
  document.addEventListener("keydown", (event) => {
    if (get("ask").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.key === "ArrowLeft") { back(); return; }
    const choices = document.querySelectorAll("#faces button, #answers button");
    const choice = /^[1-9]$/.test(event.key) ? choices[Number(event.key) - 1] : null;
    if (choice) { event.preventDefault(); answer(Number(choice.dataset.value)); }
  });

  const begin = (again) => {
    get("code").value = state.code;
    get("go").textContent = again ? "Go on" : "Start";
    get("memory").textContent = !keep()
      ? "This browser keeps nothing: answer in one go, and save the file before you close the page."
      : again ? `Welcome back: ${answered()} of ${order.length} questions are answered.` : "";
    show("start");
  };
  begin(Boolean(before) && answered() > 0);
})();
