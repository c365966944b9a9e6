"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const C = D.classes.length, HELD = D.held, PAGE = 60, narrow = innerWidth < 640;
  const state = { method: D.first, query: "", shown: PAGE, sort: D.labelled ? 0 : 1, down: !D.labelled };
  // Elements; texts are texts, never markup.
  function make(tag, props = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (key === "class") made.className = value;
      else if (value !== undefined && value !== null) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }
  const bdi = (text) => make("bdi", {}, String(text));
  const div = (className, ...children) => make("div", { class: className }, ...children);
  const note = (...children) => make("p", { class: "note" }, ...children);
  const button = (onclick, ...children) => make("button", { type: "button", onclick }, ...children);
  const td = (child) => (child instanceof Element && child.tagName === "TD" ? child : make("td", {}, child));
  const tr = (head, ...cells) => make("tr", {}, make("th", { scope: "row" }, head), ...cells.map(td));
  const table = (texts, rows) => make("table", {}, make("thead", {}, make("tr", {}, ...texts.map((text) =>
    make("th", { scope: "col", dir: "auto" }, text)))), make("tbody", {}, ...rows));
  const scrolling = (child) => make("div", { class: "scroll", tabindex: 0 }, child);
  const name = (c) => (c >= 0 && c < C ? D.classes[c] : "no class known");
  const percent = (thousandths) => (thousandths < 0 ? "–" : `${Math.round(thousandths / 10)} %`);
  const share = (part, whole) => (whole ? `${(100 * part / whole).toFixed(1)} %` : "–");
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
  const number = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
  const fold = (text) => String(text).normalize("NFKC").toLowerCase();
  const short = (text, most = 26) => (text.length > most ? `${text.slice(0, most - 9)}…${text.slice(-8)}` : text);
  // What a drawing library would take for markup in a label.
  const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;" };
  const plain = (text) => String(text).replace(/[\r\n\t]/g, " ").replace(/[&<>]/g, (letter) => entities[letter]);
  const byLabel = Array.from({ length: C }, () => []);
  for (let i = 0; i < HELD; i++) if (D.labels[i] >= 0) byLabel[D.labels[i]].push(i);
  const answered = byLabel.map(() => []);
  if (!D.labelled) D.runs[0].called.forEach((c, i) => answered[c].push(i));
  const runOf = (m) => D.runs[D.methods[m].runs[0]];
  const titleOf = (run) => `${D.methods[run.method].title}, seed ${run.seed}`;
  const answer = (run, i) => (run && i < HELD ? run.called[i] : -1);
  const isRight = (run, i) => answer(run, i) === D.labels[i];
  const splitOf = (i) => (i < HELD ? D.split : D.splits[i - HELD]);
  const source = (i) =>
    (D.folder ? `${D.folder}${i}.webp` : D.thumbs[i] ? `data:image/webp;base64,${D.thumbs[i]}` : "");
  function picture(i, className = "") {
    const address = source(i), alt = `${name(D.labels[i])}, ${D.names[i]}`;
    if (!address) return make("span", { class: `empty ${className}` }, bdi(D.names[i]));
    return make("img", { src: address, alt, loading: "lazy", decoding: "async", class: className });
  }
  function said(i, run) {
    const c = answer(run, i);
    if (c < 0) return null;
    if (D.labels[i] < 0) return make("span", {}, bdi(name(c)), ` ${percent(run.p[i])}`);
    if (isRight(run, i)) return make("span", { class: "fine" }, `✓ rightly, ${percent(run.p[i])}`);
    return make("span", { class: "said" }, "✗ called ", bdi(name(c)), `, ${percent(run.p[i])}`);
  }
  // What the seeds of a method said, each answer with how many said it, the most frequent first.
  function tally(m, i) {
    const { runs } = D.methods[m], calls = [...new Set(runs.map((r) => answer(D.runs[r], i)))];
    if (runs.length < 2 || i >= HELD) return [said(i, D.runs[runs[0]])];
    return calls.map((c) => [c, times(m, i, c)]).sort((x, y) => y[1] - x[1]).map(([c, n]) => (c === D.labels[i] ?
      make("div", { class: "fine" }, `✓ rightly in ${n} of ${runs.length} seeds`) :
      make("div", { class: "said" }, "✗ called ", bdi(name(c)), ` in ${n} of ${runs.length} seeds`)));
  }
  const tallied = (m) => (i) => [bdi(name(D.labels[i])), make("br"), ...tally(m, i)];
  function face(i, list, words) {
    const open = make("button", { type: "button", "data-image": i, onclick: () => {
      state.from = open.closest("#list, section") ?? state.from;
      detail(i, list);
    } }, picture(i));
    const own = D.labels[i] >= 0 ? bdi(name(D.labels[i])) : null;
    const caption = words ? words(i) : [own, make("br"), said(i, runOf(state.method))];
    return make("figure", {}, open, make("figcaption", {}, ...caption.filter((child) => child !== null)));
  }
  const faces = (shown, words, list = shown) => shown.map((i) => face(i, list, words));
  // Counts of each method, the seeds' sums: of 29 images in 5 seeds, "29 × 5".
  for (const method of D.methods) {
    const { counts, figures } = method;
    Object.assign(method, { cells: new Map(), rows: figures ? figures.support : [] });
    for (let k = 0; k < counts.length; k += 3) method.cells.set(counts[k] * C + counts[k + 1], counts[k + 2]);
  }
  const count = (m, i, j) => D.methods[m].cells.get(i * C + j) || 0;
  const each = (m, whole, { seeds } = D.methods[m]) =>
    (seeds < 2 || whole % seeds ? String(whole) : `${whole / seeds} × ${seeds}`);
  const ofRow = (m, n, whole) => `${n} of ${each(m, whole)} (${share(n, whole)})`;
  const of = (m, i, j) => ofRow(m, count(m, i, j), D.methods[m].rows[i]);
  const times = (m, i, j) => D.methods[m].runs.filter((r) => D.runs[r].called[i] === j).length;
  const called = (m, i, j) => byLabel[i].filter((image) => times(m, image, j))
    .sort((x, y) => times(m, y, j) - times(m, x, j) || x - y);
  const against = () => (state.method === D.first ? D.against : state.method);
  function openList(title, list, words) {
    const body = $("list-body");
    let from = 0;
    const add = () => {
      const next = list.slice(from, from + PAGE);
      body.append(...faces(next, words, list));
      from += next.length;
      const more = button(() => { more.remove(); add(); }, `More of ${list.length - from}`);
      if (from < list.length) body.append(more);
    };
    $("list-title").textContent = `${title} (${number(list.length, "image")})`;
    body.replaceChildren(...(list.length ? [] : [note("No image that the page holds.")]));
    add();
    if (!$("list").open) $("list").showModal();
  }
  function cell(m, i, j) {
    const { title, runs } = D.methods[m], words = i === j ? ", called rightly" : ` called ${name(j)}`;
    const some = runs.length > 1 ? ` in any of ${runs.length} seeds` : "";
    openList(`${name(i)}${words} by ${title}${some}`, called(m, i, j), tallied(m));
  }
  function answers(top, i) {
    const rows = top.classes[i].map((c, k) =>
      tr(make("span", {}, bdi(name(c)), c === D.labels[i] ? " ✓" : ""), percent(top.p[i][k])));
    const listed = D.labels[i] < 0 || top.classes[i].includes(D.labels[i]);
    return [make("h3", {}, bdi(titleOf(D.runs[top.run]))), make("table", {}, make("tbody", {}, ...rows)),
      ...(listed ? [] : [note(`Its own class: ${percent(top.own[i])}`)])];
  }
  function everyRun(i) {
    const seeds = [...new Set(D.runs.map(({ seed }) => seed))].sort((x, y) => x - y);
    const cellOf = ({ runs }, seed) => runs.map((r) => D.runs[r]).find((run) => run.seed === seed);
    const rows = D.methods.map((method) => tr(bdi(method.title), ...seeds.map((seed) =>
      make("td", { class: "text" }, said(i, cellOf(method, seed)) ?? "–"))));
    const found = div("texts", table(["method", ...seeds.map((seed) => `seed ${seed}`)], rows));
    return [make("h3", {}, "Every method and seed"), scrolling(found)];
  }
  function nearest(i) {
    const list = D.near.index[i].filter((n) => n >= 0), similarity = new Map();
    D.near.index[i].forEach((n, k) => similarity.set(n, D.near.similarity[i][k]));
    const words = (n) => [bdi(D.labels[n] < 0 ? name(D.runs[0].called[n]) : name(D.labels[n])), make("br"),
      `similarity ${(similarity.get(n) / 100).toFixed(2)}`];
    return [make("h3", {}, "Nearest images ", make("small", {}, `(by the embeddings of ${D.near.title})`)),
      div("gallery small", ...faces(list, words))];
  }
  function detail(i, list) {
    const at = list.indexOf(i);
    for (const [id, to] of [["before", at - 1], ["after", at + 1]])
      Object.assign($(id), { disabled: !(to in list) }).dataset.to = list[to];
    $("detail-title").textContent = D.labels[i] >= 0 ? name(D.labels[i]) : D.names[i];
    const left = div("", picture(i, "big"), note(bdi(D.names[i]), ` (${splitOf(i)})`));
    Object.assign(state, { image: i, list });
    const right = div("", ...(i < HELD ? D.tops.flatMap((top) => answers(top, i)) : []));
    const body = [div("columns", left, right)];
    if (i < HELD && D.runs.length > 1) body.push(...everyRun(i));
    if (i < HELD && D.near) body.push(...nearest(i));
    $("detail-body").replaceChildren(...body);
    if (!$("detail").open) $("detail").showModal();
    $("detail").scrollTop = 0;
  }
  const step = (id) => { if (!$(id).disabled) detail(Number($(id).dataset.to), state.list); };
  const fits = (...texts) => !state.query || texts.some((text) => fold(text).includes(state.query));
  const classFits = (c) => fits(name(c), D.family && c >= 0 ? D.familyNames[D.family[c]] : "");
  const pairFits = (pair) => classFits(pair.true) || classFits(pair.called);
  const imageFits = (i) => classFits(D.labels[i]) || fits(D.names[i], name(answer(runOf(state.method), i)));
  function found() {
    const numbers = [[D.classes.filter((_, c) => classFits(c)), "class", "classes"], [D.pairs.filter(pairFits), "pair"],
      [D.names.slice(0, HELD).filter((_, i) => imageFits(i)), "image"]];
    const words = numbers.filter(([list]) => list.length).map(([list, ...unit]) => number(list.length, ...unit));
    $("found").textContent = !state.query ? "" : words.join(", ") || "nothing found";
  }
  function toFirst() {
    const first = () => document.querySelector("#class-table tbody button, #gallery button");
    if (!first() && D.labelled) { $("which").value = "all"; images(); } // found, but not in the list that is shown
    const hit = state.query && first();
    if (!hit) return;
    hit.scrollIntoView({ block: "center", behavior: "instant" });
    hit.focus({ preventScroll: true });
  }
  // Pairs.
  function mark(i, run, a, b) {
    const c = run.called[i];
    const [kind, sign, words] = c === D.labels[i] ? ["right", "✓", "right"] :
      c === a || c === b ? ["pair", "✗", "called the other class"] : ["wrong", "–", `called ${name(c)}`];
    return make("span", { class: `mark ${kind}`, title: `${titleOf(run)}: ${words}` }, sign);
  }
  const marks = (i, a, b, methods) => methods.map((m) => make("span", { class: "marks" },
    make("span", { class: "of" }, short(D.methods[m].title, 18)),
    ...D.methods[m].runs.map((r) => mark(i, D.runs[r], a, b))));
  function pairTable(a, b, changes) {
    const compared = changes.some((change) => change), { title } = D.methods[D.first];
    const rows = D.methods.map((method, m) => tr(bdi(method.title), ...(compared ? [changes[m]] : []),
      button(() => cell(m, a, b), of(m, a, b)), button(() => cell(m, b, a), of(m, b, a))));
    const [x, y] = [short(name(a)), short(name(b))], change = compared ? [`errors against ${title}, points`] : [];
    return scrolling(table(["method", ...change, `${x} called ${y}`, `${y} called ${x}`], rows));
  }
  function card({ true: a, called: b, note: why, changes }) {
    const both = against() >= 0 ? [D.first, against()] : [D.first], first = D.methods[D.first];
    const misses = (i) => first.runs.filter((r) => !isRight(D.runs[r], i)).length;
    const wrong = [...new Set(both.flatMap((m) => [...called(m, a, b), ...called(m, b, a)]))];
    wrong.sort((x, y) => misses(y) - misses(x) || x - y);
    const titles = both.map((m) => D.methods[m].title).join(" or ");
    const side = (c) => div("", make("h4", {}, bdi(name(c)), `, called rightly by ${first.title}`),
      div("faces small", ...faces(called(D.first, c, c).slice(0, 4), (i) => [
        first.runs.length > 1 ? `in ${times(D.first, i, c)} of ${number(first.runs.length, "seed")}` :
          percent(runOf(D.first).p[i])])));
    const words = (i) => [bdi(name(D.labels[i])), ...marks(i, a, b, both)];
    return make("article", { class: "card", "data-pair": `${a},${b}` },
      make("h3", {}, bdi(name(a)), " ↔ ", bdi(name(b))),
      why ? note(why) : null,
      pairTable(a, b, changes), div("sides", side(a), side(b)),
      make("h4", {}, `Images that ${titles} took for the other class (${wrong.length})`),
      div("faces", ...wrong.slice(0, 12).map((i) => face(i, wrong, words))),
      wrong.length > 12 ? button(() => openList(`${name(a)} ↔ ${name(b)}, by ${titles}`, wrong, words),
        `All ${wrong.length}`) : null);
  }
  function cards() {
    const kept = D.pairs.filter(pairFits);
    $("cards").replaceChildren(...kept.map(card));
    $("no-cards").hidden = kept.length > 0;
  }
  // Classes.
  const figure = (key, c) => D.methods[state.method].figures[key][c]; // in per cent, −1 where there is none
  const rated = (key) => [(c) => figure(key, c), (c) => (figure(key, c) < 0 ? "–" : figure(key, c).toFixed(1))];
  const gain = (c) => figure("recall", c) - D.methods[D.first].figures.recall[c];
  const taken = (c) => D.methods[state.method].taken[c];
  const columns = D.labelled ? {
    class: [name],
    images: [(c) => figure("support", c), (c) => each(state.method, figure("support", c))],
    "precision %": rated("precision"), "recall %": rated("recall"), "F1 %": rated("f1"),
    "recall, change": [gain, (c) => (figure("support", c) ? signed(gain(c)) : "–")],
    "taken for": [(c) => (taken(c) ? taken(c)[1] : 0), (c) => make("td", { class: "text" }, taken(c) ?
      button(() => cell(state.method, c, taken(c)[0]), bdi(name(taken(c)[0])),
        ` ${ofRow(state.method, taken(c)[1], figure("support", c))}`) : "–")],
  } : {
    class: [name],
    "images called so": [(c) => answered[c].length, (c) => String(answered[c].length)],
    share: [(c) => answered[c].length, (c) => share(answered[c].length, HELD)],
  };
  function sortBy(k) {
    state.down = state.sort === k ? !state.down : k > 0;
    state.sort = k;
    classes();
    $("class-table").tHead.rows[0].cells[k].firstChild.focus();
  }
  const opening = (c) => button(() => (D.labelled ?
    openList(`${name(c)}, by ${D.methods[state.method].title}`, byLabel[c], tallied(state.method)) :
    openList(name(c), answered[c])), bdi(name(c)));
  function classes() {
    const kept = Object.keys(columns).filter((key) => key !== "recall, change" || state.method !== D.first);
    state.sort = Math.min(state.sort, kept.length - 1);
    const rows = D.order.filter((c) => classFits(c) && (D.labelled || answered[c].length));
    const value = columns[kept[state.sort]][0], way = state.down ? -1 : 1;
    rows.sort((x, y) => {
      const [a, b] = [value(x), value(y)];
      return way * (typeof a === "string" ? a.localeCompare(b) : a - b) || x - y;
    });
    const head = kept.map((text, k) => {
      const sorted = k !== state.sort ? "none" : state.down ? "descending" : "ascending";
      const sign = { none: "", descending: " ▾", ascending: " ▴" }[sorted];
      const where = text === "taken for" ? "text" : undefined;
      return make("th", { scope: "col", "aria-sort": sorted, class: where }, button(() => sortBy(k), text + sign));
    });
    $("class-table").tHead.rows[0].replaceChildren(...head);
    $("class-table").tBodies[0].replaceChildren(...rows.map((c) =>
      tr(opening(c), ...kept.slice(1).map((key) => columns[key][1](c)))));
    $("no-classes").hidden = rows.length > 0;
  }
  // Images.
  const here = (i) => isRight(runOf(state.method), i), before = (i) => isRight(runOf(D.first), i);
  const kinds = { wrong: (i) => !here(i), fixed: (i) => here(i) && !before(i), broken: (i) => !here(i) && before(i),
    never: (i) => D.runs.every((run) => !isRight(run, i)) }; // the others are of all images
  function images() {
    for (const choice of $("which").options) // there is nothing to compare the first method with
      choice.disabled = state.method === D.first && ["fixed", "broken"].includes(choice.value);
    if ($("which").selectedOptions[0].disabled) $("which").value = "wrong";
    const run = runOf(state.method), which = $("which").value, list = [];
    if (run) for (let i = 0; i < HELD; i++) if ((kinds[which]?.(i) ?? true) && imageFits(i)) list.push(i);
    const way = which === "unsure" ? 1 : -1;
    if (which !== "all") list.sort((x, y) => way * (run.p[x] - run.p[y]) || x - y);
    $("gallery").replaceChildren(...list.slice(0, state.shown).map((i) => face(i, list)));
    const whole = D.total > HELD ? `${HELD} held of ${D.total}` : `${HELD}`;
    const sought = state.query ? "; the search finds a class, an answer or a file" : "";
    $("how-many").textContent = run ? `${list.length} of ${whole} images, by ${titleOf(run)}${sought}` :
      "What was said of each image was not kept.";
    $("more").hidden = list.length <= state.shown;
  }
  function suspects() {
    const kept = D.suspects.filter(([i, label, suggested]) =>
      fits(name(label), name(suggested), D.names[i])).slice(0, PAGE), list = kept.map(([i]) => i);
    const shown = kept.map(([i, label, suggested, own, probability]) => face(i, list, () => [
      "labelled ", bdi(name(label)), `, ${percent(own)}`, make("br"),
      make("span", { class: "said" }, "models: ", bdi(name(suggested)), `, ${percent(probability)}`)]));
    $("suspect-list").replaceChildren(...(shown.length ? shown : [note("None.")]));
  }
  function copies() {
    const none = D.folder || D.thumbs.length ? "None was found among the images of this page." :
      "The images are not at hand, so none was sought.";
    const words = (i) => [bdi(name(D.labels[i])), make("br"), bdi(D.names[i].split("/").pop())];
    const captions = D.labelled ? words : undefined, groups = D.copies.slice(0, PAGE).map((group) =>
      div("card faces small", ...faces(group, captions)));
    $("copies").replaceChildren(...(groups.length ? groups : [note(none)]));
  }
  function save() {
    const href = URL.createObjectURL(new Blob([D.suspectsFile], { type: "text/csv" }));
    make("a", { href, download: "suspects.csv" }).click();
    URL.revokeObjectURL(href);
  }
  // Drawings, each once it is seen.
  const ink = (key) => getComputedStyle(document.documentElement).getPropertyValue(`--${key}`).trim();
  const look = () => D.looks[document.documentElement.dataset.theme];
  const visible = (colour) => look()[colour] || colour;
  const draws = { "matrix-plot": matrix, "map-plot": map };
  for (const id of ["calibration", "curve", "weights"]) draws[`${id}-plot`] = () => composed(id);
  const seen = new Set(), stale = new Set(Object.keys(draws));
  function drawn(id) {
    if (!$(id) || !seen.has(id) || !stale.has(id)) return;
    stale.delete(id);
    if (!window.Plotly) {
      // Four megabytes that nothing needs before the first drawing. Its digest is in the page's policy.
      const library = document.createElement("script");
      library.textContent = $("library").textContent;
      document.head.append(library);
    }
    draws[id]();
  }
  const redraw = (...ids) => { for (const id of ids) { stale.add(id); drawn(id); } };
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  const axis = (more) => (
    { gridcolor: ink("line"), zeroline: false, linecolor: ink("line"), automargin: true, ...more });
  function layout(more) {
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink("ink"), size: 12 },
      margin: { t: 10, r: 10, l: 60, b: 50 }, hovermode: "closest",
      legend: { orientation: "h", y: narrow ? -0.25 : 1.02, yanchor: narrow ? "top" : "bottom" }, ...more,
    };
  }
  function hovering(plot, show, click) {
    const tip = $("tip");
    for (const each of ["plotly_hover", "plotly_unhover", "plotly_click"]) plot.removeAllListeners(each);
    plot.on("plotly_hover", ({ event, points }) => {
      const [i, words] = show(points[0]);
      tip.replaceChildren(...(i >= 0 && source(i) ? [picture(i)] : []), ...words);
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 240)}px`;
      tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
    });
    plot.on("plotly_unhover", () => { tip.hidden = true; });
    plot.on("plotly_click", ({ points }) => { tip.hidden = true; click(points[0]); });
  }
  // What was composed elsewhere: traces and a layout of each choice.
  function composed(id) {
    const chosen = $(id).tagName === "SELECT" ? Number($(id).value) : 0;
    const [, traces, own] = D.figures[id][chosen];
    const coloured = traces.map((trace) => (
      { ...trace, line: { ...trace.line, color: visible(trace.line?.color) } }));
    const whole = layout({ ...own, xaxis: axis(own.xaxis), yaxis: axis(own.yaxis) });
    Plotly.react($(`${id}-plot`), coloured, whole, config);
  }
  function matrixTraces(m, minus) {
    const method = D.methods[m], first = D.methods[D.first], place = [], x = D.order.map(String), y = x;
    D.order.forEach((c, k) => { place[c] = k; });
    const blank = () => Array.from({ length: C }, () => new Array(C).fill(null));
    const off = blank(), own = blank(), text = C <= 15 ? blank() : undefined;
    const keys = new Set([...method.cells.keys(), ...(minus ? first.cells.keys() : [])]);
    let most = 0;
    for (const key of keys) {
      const i = Math.floor(key / C), j = key % C, part = 100 * count(m, i, j) / (method.rows[i] || 1);
      const value = minus ? part - 100 * count(D.first, i, j) / (first.rows[i] || 1) : Math.sqrt(part);
      if (text) text[place[i]][place[j]] = minus ? value.toFixed(0) : String(count(m, i, j));
      if (i === j && !minus) own[place[i]][place[j]] = part;
      else {
        off[place[i]][place[j]] = value;
        most = Math.max(most, Math.abs(value));
      }
    }
    const ticks = [0.5, 1, 2, 5, 10, 20, 40, 70, 100].filter((tick) => Math.sqrt(tick) <= most * 1.02);
    const marked = minus ? {} : { tickvals: ticks.map(Math.sqrt), ticktext: ticks.map(String) };
    const colorbar = { title: { text: minus ? "points" : "% of the row" }, thickness: 12, ...marked };
    const gap = C <= 60 ? 1 : 0, texttemplate = text ? "%{text}" : undefined;
    const base = { x, y, type: "heatmap", hoverinfo: "none", text, texttemplate, xgap: gap, ygap: gap };
    const colorscale = minus ? look().change : look().heat;
    const colours = { colorscale, zmin: minus ? -most : 0, zmax: most || 1, colorbar };
    const right = { ...base, z: own, colorscale: look().grey, zmin: 0, zmax: 100, showscale: false };
    return [{ ...base, z: off, ...colours }, ...(minus ? [] : [right])];
  }
  // Frames of families, and of the rows and columns of the few classes that are sought.
  function frames() {
    const box = (x0, x1, y0, y1) => ({ type: "rect", x0, x1, y0, y1, line: { width: 1, color: ink("link") } });
    const hits = state.query ? D.order.map((c, k) => (classFits(c) ? k : -1)).filter((k) => k >= 0) : [];
    return [...D.frames.map(([low, high]) => box(low, high, low, high)), ...(hits.length > 20 ? [] : hits).flatMap(
      (k) => [box(-0.5, C - 0.5, k - 0.5, k + 0.5), box(k - 0.5, k + 0.5, -0.5, C - 0.5)])];
  }
  async function matrix() {
    const m = state.method, plot = $("matrix-plot"), ends = [-0.5, C - 0.5], showticklabels = C <= 15 || !narrow;
    // Columns and rows go by their classes' numbers; as many names as there is room for stand there.
    const labelalias = Object.fromEntries(D.classes.map((text, c) => [c, plain(short(text))]));
    const side = (more) => axis({ type: "category", labelalias, nticks: 60, showgrid: false, showticklabels, ...more });
    const xaxis = side({ tickangle: -90, title: { text: "called" }, range: ends });
    const yaxis = side({ title: { text: "class of the image" }, range: [...ends].reverse() });
    const traces = matrixTraces(m, $("difference").checked);
    const whole = layout({ shapes: frames(), xaxis, yaxis, dragmode: !narrow && "zoom" });
    await Plotly.react(plot, traces, whole, { ...config, doubleClick: false });
    const at = ({ x, y }) => [Number(y), Number(x)];
    hovering(plot, (point) => {
      const [i, j] = at(point);
      const words = i === j ? [" called rightly: "] : [" called ", bdi(name(j)), ": "];
      return [called(m, i, j)[0] ?? -1, [bdi(name(i)), ...words, of(m, i, j)]];
    }, (point) => count(m, ...at(point)) && cell(m, ...at(point)));
  }
  function cells() {
    const m = state.method, list = [...D.methods[m].cells].map(([key, n]) => [Math.floor(key / C), key % C, n]);
    const kept = list.filter(([i, j]) => i !== j && pairFits({ true: i, called: j }));
    kept.sort((a, b) => b[2] - a[2] || a[0] - b[0]);
    $("cells").tBodies[0].replaceChildren(...kept.slice(0, 40).map(([i, j, n]) =>
      tr(bdi(name(i)), make("td", { class: "text" }, button(() => cell(m, i, j), bdi(name(j)))),
        String(n), each(m, D.methods[m].rows[i]), share(n, D.methods[m].rows[i]))));
  }
  async function map() {
    const found = D.maps[Number($("map-of").value)], plot = $("map-plot");
    const run = D.runs[found.run], groups = [[], []];
    for (let i = 0; i < HELD; i++) groups[isRight(run, i) || D.labels[i] < 0 ? 0 : 1].push(i);
    const looks = [[D.labelled ? "called rightly" : "images", "right", "circle"], ["called wrongly", "wrong", "x"]];
    const traces = groups.map((list, k) => ({
      type: "scatter", mode: "markers", name: looks[k][0], hoverinfo: "none", customdata: list,
      x: list.map((i) => found.x[i]), y: list.map((i) => found.y[i]), visible: list.length > 0,
      marker: { size: HELD > 2000 ? 5 : 7, color: ink(looks[k][1]), symbol: looks[k][2], opacity: 0.75 },
    }));
    const yaxis = axis({ visible: false, scaleanchor: "x" });
    await Plotly.react(plot, traces, layout({ xaxis: axis({ visible: false }), yaxis }), config);
    hovering(plot, ({ customdata: i }) => [i, [bdi(name(D.labels[i])), make("br"), said(i, run) ?? ""]],
      ({ customdata: i, curveNumber }) => detail(i, groups[curveNumber]));
  }
  const all = [found, ...(D.labelled ? [cards, cells, suspects] : []), classes, images];
  const lists = () => all.forEach((list) => list());
  // Lists above what is looked at may grow or shrink; it stays where it is.
  function staying(act) {
    const at = document.elementFromPoint(innerWidth / 2, innerHeight / 3)?.closest("article, section");
    const top = at ? at.getBoundingClientRect().top : 0, pair = at?.dataset.pair;
    act();
    const now = pair ? document.querySelector(`[data-pair="${pair}"]`) : at;
    if (now && scrollY > 0) scrollBy({ top: now.getBoundingClientRect().top - top, behavior: "instant" });
  }
  const on = (id, kind, act) => $(id).addEventListener(kind, act);
  function themed(theme) {
    document.documentElement.dataset.theme = theme;
    $("theme").textContent = theme === "dark" ? "Light" : "Dark";
    redraw(...Object.keys(draws));
  }
  themed(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  on("theme", "click", () => themed(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  for (const id of ["list", "detail"]) {
    $(id).querySelector(".close").addEventListener("click", () => $(id).close());
    on(id, "click", (event) => { if (event.target === $(id)) $(id).close(); });
  }
  on("detail", "close", () => state.from?.querySelector(`[data-image="${state.image}"]`)?.focus()); // the last one
  for (const id of ["before", "after"]) on(id, "click", () => step(id));
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && $("search")) { event.preventDefault(); $("search").focus(); }
    const way = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
    if (way && $("detail").open) step(way);
  });
  for (const id of ["curve", "weights", "map-of"].filter($))
    on(id, "change", () => redraw(`${id.replace("-of", "")}-plot`));
  if ($("search")) {
    const again = () => { state.shown = PAGE; staying(lists); };
    $("method").value = D.first; // a browser may keep what was chosen before
    on("method", "change", () => {
      state.method = Number($("method").value);
      again();
      $("no-difference").hidden = state.method !== D.first;
      $("difference").disabled = state.method === D.first;
      if ($("difference").disabled) $("difference").checked = false;
      redraw("matrix-plot");
    });
    let waiting = 0;
    const search = () => {
      clearTimeout(waiting);
      state.query = fold($("search").value.trim());
      again();
      if ($("matrix-plot") && $("matrix-plot").layout) Plotly.relayout($("matrix-plot"), { shapes: frames() });
    };
    on("search", "input", () => { clearTimeout(waiting); waiting = setTimeout(search, 150); });
    on("search", "keydown", (event) => {
      if (["Enter", "ArrowDown"].includes(event.key)) { event.preventDefault(); search(); toFirst(); }
    });
    on("which", "change", () => { state.shown = PAGE; images(); });
    on("more", "click", () => { state.shown += PAGE; images(); });
    if (D.labelled) {
      on("difference", "change", () => redraw("matrix-plot"));
      on("whole", "click", () => Plotly.relayout($("matrix-plot"),
        { "xaxis.range": [-0.5, C - 0.5], "yaxis.range": [C - 0.5, -0.5] }));
      on("export", "click", save);
      $("largest").open = narrow;
    }
    if ($("worst")) on("worst", "click", () => {
      const spot = document.querySelector(`[data-pair="${D.worst}"], [data-pair="${[...D.worst].reverse()}"]`);
      if (spot) spot.scrollIntoView(); else cell(D.first, ...D.worst);
    });
    lists();
    copies();
  }
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) drawn(seen.add(target.id) && target.id);
  }, { rootMargin: "300px" });
  for (const id of Object.keys(draws).filter($)) watch.observe($(id));
  document.documentElement.dataset.ready = "yes";
})();
