"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const C = D.classes.length, HELD = D.held, PAGE = 60, NAMED = 60;
  const state = { method: D.first, query: "", shown: PAGE, sort: 0, down: false };

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
  const name = (c) => (c >= 0 && c < C ? D.classes[c] : "no class known");
  const percent = (thousandths) => (thousandths < 0 ? "–" : `${Math.round(thousandths / 10)} %`);
  const share = (part, whole, digits = 1) => (whole ? `${(100 * part / whole).toFixed(digits)} %` : "–");
  const fold = (text) => String(text).normalize("NFKC").toLowerCase();
  // What a drawing library would take for markup in a label.
  const plain = (text) => String(text).replace(/[\r\n\t]/g, " ").replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (text, most = 26) => (text.length <= most ? text : `${text.slice(0, most - 9)}…${text.slice(-8)}`);

  // Images.
  const byLabel = Array.from({ length: C }, () => []);
  for (let i = 0; i < HELD; i++) if (D.labels[i] >= 0) byLabel[D.labels[i]].push(i);
  const source = (i) => (D.folder ? `${D.folder}${i}.webp` : D.thumbs[i] ? `data:image/webp;base64,${D.thumbs[i]}` : "");
  const splitOf = (i) => (i < HELD ? D.split : D.splits[i - HELD]);
  const runOf = (m) => D.runs[D.methods[m].runs[0]];
  const answer = (run, i) => (run && i < HELD ? run.called[i] : -1);
  const isRight = (run, i) => answer(run, i) === D.labels[i];
  function picture(i, className = "") {
    const address = source(i), text = `${name(D.labels[i])}, ${D.names[i]}`;
    if (!address) return make("span", { class: `empty ${className}` }, bdi(D.names[i]));
    return make("img", { src: address, alt: text, loading: "lazy", decoding: "async", class: className });
  }
  function said(i, run) {
    if (answer(run, i) < 0) return null;
    if (D.labels[i] < 0) return make("span", {}, bdi(name(run.called[i])), ` ${percent(run.p[i])}`);
    const right = isRight(run, i);
    return make("span", { class: right ? "fine" : "said" }, right ? "✓ rightly, " : "✗ called ",
      right ? "" : bdi(name(run.called[i])), right ? "" : ", ", percent(run.p[i]));
  }
  function face(i, list, ...more) {
    const open = make("button", { type: "button", "data-image": i, onclick: () => detail(i, list) }, picture(i));
    const own = D.labels[i] >= 0 ? bdi(name(D.labels[i])) : null;
    return make("figure", {}, open, make("figcaption", {}, ...(more.length ? more : [own, make("br"), said(i, runOf(state.method))])));
  }
  const faces = (list, words) => list.map((i) => face(i, list, ...(words ? words(i) : [])));

  // Counts: of each method, by row and column.
  for (const method of D.methods) {
    method.cells = new Map();
    method.rows = new Float64Array(C);
    method.columns = new Float64Array(C);
    for (let k = 0; k < method.counts.length; k += 3) {
      const [i, j, n] = method.counts.slice(k, k + 3);
      method.cells.set(i * C + j, n);
      method.rows[i] += n;
      method.columns[j] += n;
    }
  }
  const count = (m, i, j) => D.methods[m].cells.get(i * C + j) || 0;
  const other = () => {
    if (state.method !== D.first) return state.method;
    const cdml = D.methods.findIndex((method, m) => method.key === "cdml" && m !== D.first);
    return cdml >= 0 ? cdml : D.methods.findIndex((_, m) => m !== D.first);
  };
  const byCalled = (c) => D.labels.map((_, i) => i).filter((i) => i < HELD && D.runs[0].called[i] === c);
  const called = (m, i, j) => byLabel[i].filter((image) => D.methods[m].runs.some((r) => D.runs[r].called[image] === j));

  // Dialogs.
  function openList(title, list) {
    $("list-title").textContent = `${title} (${list.length})`;
    const body = $("list-body");
    let from = 0;
    const add = () => {
      const next = list.slice(from, from + PAGE);
      body.append(...next.map((i) => face(i, list)));
      from += next.length;
      if (from < list.length) {
        const more = make("button", { type: "button", onclick: () => { more.remove(); add(); } }, `More of ${list.length - from}`);
        body.append(more);
      }
    };
    body.replaceChildren();
    if (list.length) add();
    else body.append(make("p", { class: "note" }, "No image that the page holds."));
    if (!$("list").open) $("list").showModal();
  }
  const cell = (m, i, j) => openList(i === j ? `${name(i)}, called rightly by ${D.methods[m].title}` :
    `${name(i)} called ${name(j)} by ${D.methods[m].title}`, called(m, i, j));
  let stepping = [];
  function detail(i, list) {
    stepping = list;
    const at = list.indexOf(i);
    $("before").disabled = at <= 0;
    $("after").disabled = at < 0 || at >= list.length - 1;
    $("before").dataset.to = list[at - 1];
    $("after").dataset.to = list[at + 1];
    $("detail-title").textContent = D.labels[i] >= 0 ? name(D.labels[i]) : D.names[i];
    const left = make("div", {}, picture(i, "big"), make("p", { class: "note" }, bdi(D.names[i]), ` (${splitOf(i)})`));
    const right = make("div");
    if (i < HELD) for (const top of D.tops) {
      const run = D.runs[top.run], title = `${D.methods[run.method].title}, seed ${run.seed}`;
      right.append(make("h3", {}, bdi(title)), make("table", {}, make("tbody", {}, ...top.classes[i].map((c, k) =>
        make("tr", {}, make("th", { scope: "row" }, bdi(name(c)), c === D.labels[i] ? " ✓" : ""), make("td", {}, percent(top.p[i][k])))))));
      if (D.labels[i] >= 0 && !top.classes[i].includes(D.labels[i])) right.append(make("p", { class: "note" }, `Its own class: ${percent(top.own[i])}`));
    }
    const body = [make("div", { class: "columns" }, left, right)];
    if (i < HELD && D.runs.length > 1) body.push(make("h3", {}, "Every method and seed"), make("div", { class: "scroll", tabindex: 0 },
      make("table", {}, make("tbody", {}, ...D.methods.map((method) => make("tr", {}, make("th", { scope: "row" }, bdi(method.title)),
        ...method.runs.map((r) => make("td", { class: "text" }, said(i, D.runs[r])))))))));
    if (i < HELD && D.near) {
      const near = D.near.index[i].map((n, k) => [n, D.near.similarity[i][k]]).filter(([n]) => n >= 0);
      body.push(make("h3", {}, "Nearest images ", make("small", {}, `(by the embeddings of ${D.near.title})`)), make("div", { class: "gallery small" },
        ...near.map(([n, s]) => face(n, near.map(([k]) => k), bdi(name(D.labels[n])), make("br"), `similarity ${(s / 100).toFixed(2)}`))));
    }
    $("detail-body").replaceChildren(...body);
    if (!$("detail").open) $("detail").showModal();
    $("detail").scrollTop = 0;
  }
  const step = (id) => { if (!$(id).disabled) detail(Number($(id).dataset.to), stepping); };

  // Search.
  const fits = (...texts) => !state.query || texts.some((text) => fold(text).includes(state.query));
  const imageFits = (i, run) => fits(name(D.labels[i]), D.names[i], answer(run, i) >= 0 ? name(run.called[i]) : "");

  // Pairs.
  function marks(i, a, b, methods) {
    return methods.map((m) => make("span", { class: "marks" }, make("span", { class: "of" }, short(D.methods[m].title, 18)), ...D.methods[m].runs.map((r) => {
      const c = D.runs[r].called[i];
      const kind = c === D.labels[i] ? ["right", "✓", "right"] : c === a || c === b ? ["pair", "✗", "called the other class"] : ["wrong", "–", `called ${name(c)}`];
      return make("span", { class: `mark ${kind[0]}`, title: `${D.methods[m].title}, seed ${D.runs[r].seed}: ${kind[2]}` }, kind[1]);
    })));
  }
  function card(pair) {
    const { true: a, called: b } = pair, against = other();
    const both = against >= 0 ? [D.first, against] : [D.first];
    const wrong = [...new Set(both.flatMap((m) => [...called(m, a, b), ...called(m, b, a)]))];
    const times = (i) => D.methods[D.first].runs.filter((r) => !isRight(D.runs[r], i)).length;
    wrong.sort((x, y) => times(y) - times(x) || x - y);
    const of = (m, i, j) => `${count(m, i, j)} of ${D.methods[m].rows[i]} (${share(count(m, i, j), D.methods[m].rows[i])})`;
    const rate = (m) => (count(m, a, b) + count(m, b, a)) / Math.max(1, D.methods[m].rows[a] + D.methods[m].rows[b]);
    const rows = D.methods.map((method, m) => make("tr", {}, make("th", { scope: "row" }, bdi(method.title)),
      make("td", {}, make("button", { type: "button", onclick: () => cell(m, a, b) }, of(m, a, b))),
      make("td", {}, make("button", { type: "button", onclick: () => cell(m, b, a) }, of(m, b, a))),
      make("td", {}, m === D.first ? "" : `${(100 * (rate(m) - rate(D.first))).toFixed(1)}`)));
    const examples = (c) => byLabel[c].filter((i) => isRight(runOf(D.first), i)).slice(0, 4);
    const side = (c) => make("div", {}, make("h4", {}, "Rightly called ", bdi(name(c))), make("div", { class: "faces small" },
      ...faces(examples(c), (i) => [bdi(D.names[i].split("/").pop())])));
    const head = ["method", `${short(name(a))} called ${short(name(b))}`, `${short(name(b))} called ${short(name(a))}`, "change, points"];
    return make("article", { class: "card", "data-pair": `${a},${b}` }, make("h3", {}, bdi(name(a)), " ↔ ", bdi(name(b))),
      pair.images && D.pairsApart ? make("p", { class: "note" }, `On validation images, which chose it: ${pair.number} of ${pair.images} (${share(pair.number, pair.images)}).`) : null,
      make("div", { class: "scroll", tabindex: 0 }, make("table", {}, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col", dir: "auto" }, text)))), make("tbody", {}, ...rows))),
      make("div", { class: "sides" }, side(a), side(b)), make("h4", {}, `Images that went wrong (${wrong.length})`),
      make("div", { class: "faces" }, ...wrong.slice(0, 12).map((i) => face(i, wrong, bdi(name(D.labels[i])), ...marks(i, a, b, both)))),
      wrong.length > 12 ? make("button", { type: "button", onclick: () => openList(`${name(a)} and ${name(b)}`, wrong) }, `All ${wrong.length}`) : null);
  }
  function cards() {
    if (!$("cards")) return;
    const kept = D.pairs.filter((pair) => fits(name(pair.true), name(pair.called)));
    $("cards").replaceChildren(...kept.map(card));
    $("no-cards").hidden = kept.length > 0;
  }

  // Classes.
  function classes() {
    if (!D.labelled) return answers();
    const m = state.method, method = D.methods[m];
    const rows = byLabel.map((_, c) => {
      const right = count(m, c, c), images = method.rows[c], times = method.columns[c];
      return { c, images, precision: times ? right / times : -1, recall: images ? right / images : -1, f1: images + times ? 2 * right / (images + times) : -1,
        before: D.methods[D.first].rows[c] ? count(D.first, c, c) / D.methods[D.first].rows[c] : -1, taken: taken[m][c] };
    }).filter((row) => fits(name(row.c), D.family ? D.familyNames[D.family[row.c]] : ""));
    const rate = (value) => (value < 0 ? "–" : (100 * value).toFixed(1));
    const columns = [["class", (r) => name(r.c)], ["images", (r) => r.images], ["precision %", (r) => r.precision], ["recall %", (r) => r.recall], ["F1 %", (r) => r.f1],
      ...(m !== D.first ? [["recall, change", (r) => r.recall - r.before]] : []), ["taken for", (r) => (r.taken ? r.taken[1] : 0)]];
    const value = columns[Math.min(state.sort, columns.length - 1)][1];
    rows.sort((x, y) => { const [a, b] = [value(x), value(y)]; return (state.down ? -1 : 1) * (typeof a === "string" ? a.localeCompare(b) : a - b) || x.c - y.c; });
    $("class-table").tHead.rows[0].replaceChildren(...columns.map(([text], k) => make("th", { scope: "col", "aria-sort": k === state.sort ? (state.down ? "descending" : "ascending") : "none" },
      make("button", { type: "button", onclick: () => { state.down = state.sort === k ? !state.down : k > 0; state.sort = k; classes(); $("class-table").tHead.rows[0].cells[k].firstChild.focus(); } }, text, k === state.sort ? (state.down ? " ▾" : " ▴") : ""))));
    $("class-table").tBodies[0].replaceChildren(...rows.map((row) => make("tr", {}, make("th", { scope: "row" },
      make("button", { type: "button", class: "plain", onclick: () => openList(name(row.c), byLabel[row.c]) }, bdi(name(row.c)))),
      make("td", {}, String(row.images)), make("td", {}, rate(row.precision)), make("td", {}, rate(row.recall)), make("td", {}, rate(row.f1)),
      m !== D.first ? make("td", {}, row.images ? (100 * (row.recall - row.before)).toFixed(1) : "–") : null,
      make("td", { class: "text" }, row.taken ? make("button", { type: "button", onclick: () => cell(m, row.c, row.taken[0]) }, bdi(name(row.taken[0])), ` ${row.taken[1]} (${share(row.taken[1], row.images, 0)})`) : "–"))));
  }
  function answers() {
    const rows = D.order.map((c) => [c, byCalled(c)]).filter(([c, list]) => list.length && fits(name(c))).sort((a, b) => b[1].length - a[1].length);
    $("class-table").tHead.rows[0].replaceChildren(...["class", "images called so", "share"].map((text) => make("th", { scope: "col" }, text)));
    $("class-table").tBodies[0].replaceChildren(...rows.map(([c, list]) => make("tr", {}, make("th", { scope: "row" }, make("button", { type: "button", class: "plain", onclick: () => openList(name(c), list) }, bdi(name(c)))),
      make("td", {}, String(list.length)), make("td", {}, share(list.length, HELD)))));
  }
  const taken = D.methods.map((method) => {
    const most = new Array(C);
    for (const [key, n] of method.cells) {
      const i = Math.floor(key / C), j = key % C;
      if (i !== j && (!most[i] || n > most[i][1])) most[i] = [j, n];
    }
    return most;
  });

  // Images.
  const kinds = !D.labelled ? { unsure: ["least sure first", () => true], sure: ["surest first", () => true] } : {
    wrong: ["wrong, surest first", (i) => !isRight(runOf(state.method), i)],
    fixed: ["right here, wrong by the first method", (i) => isRight(runOf(state.method), i) && !isRight(runOf(D.first), i)],
    broken: ["wrong here, right by the first method", (i) => !isRight(runOf(state.method), i) && isRight(runOf(D.first), i)],
    never: ["wrong by every run", (i) => D.runs.every((run) => !isRight(run, i))],
    all: ["all", () => true],
  };
  function images() {
    const run = runOf(state.method), keep = (kinds[$("which").value] || kinds.all)[1], list = [];
    if (run) for (let i = 0; i < HELD; i++) if (keep(i) && imageFits(i, run)) list.push(i);
    const sign = $("which").value === "unsure" ? 1 : -1;
    if ($("which").value !== "all") list.sort((x, y) => sign * (run.p[x] - run.p[y]) || x - y);
    $("gallery").replaceChildren(...list.slice(0, state.shown).map((i) => face(i, list)));
    const of = D.total > HELD ? `${HELD} held of ${D.total}` : `${HELD}`;
    $("how-many").textContent = run ? `${list.length} of ${of} images, ${D.methods[state.method].title}, seed ${run.seed}` : "What was said of each image was not kept.";
    $("more").hidden = list.length <= state.shown;
  }

  // Suspects and copies.
  const suspectFits = ([i, , suggested]) => fits(name(D.labels[i]), name(suggested), D.names[i]);
  function suspects() {
    if (!$("suspect-list")) return;
    const kept = D.suspects.filter(suspectFits), list = kept.map(([i]) => i);
    $("suspect-list").replaceChildren(...(kept.length ? kept.slice(0, PAGE).map(([i, label, suggested, own, probability]) => face(i, list, bdi(name(label)), ` ${percent(own)}`, make("br"),
      make("span", { class: "said" }, bdi(name(suggested)), ` ${percent(probability)}`))) : [make("p", { class: "note" }, "None.")]));
  }
  function copies() {
    $("copies").replaceChildren(...(D.copies.length ? D.copies.slice(0, PAGE).map((group) => make("div", { class: "card faces small" }, ...faces(group))) : [make("p", { class: "note" }, D.folder || D.thumbs.length ? "None was found among the images of this page." : "The images are not at hand, so none was sought.")]));
  }
  function exported() {
    const quoted = (value) => `"${(/^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value)).replace(/"/g, '""')}"`;
    const rows = D.suspects.filter(suspectFits).map(([i, label, suggested, own, probability]) => [splitOf(i), D.names[i], name(label), name(suggested)].map(quoted).concat(own / 1000, probability / 1000).join(","));
    const text = ["split,image,class,suggested,class_probability,suggested_probability", ...rows].join("\r\n");
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "suspects.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // Drawings, each once it is seen.
  const dark = () => document.documentElement.dataset.theme === "dark";
  const ink = (key) => getComputedStyle(document.documentElement).getPropertyValue(`--${key}`).trim();
  const swapped = { "#000000": ["#000000", "#e8eaee"], "#0064a0": ["#0064a0", "#4aa3ea"], "#a6a6a6": ["#7d7d7d", "#a6a6a6"] };
  const visible = (colour) => (swapped[colour] || [colour, colour])[dark() ? 1 : 0];
  const draws = { "matrix-plot": matrix, "map-plot": map, "calibration-plot": () => composed("calibration"), "curve-plot": () => composed("curve"), "weights-plot": () => composed("weights") };
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
  const axis = (more) => ({ gridcolor: ink("line"), zeroline: false, linecolor: ink("line"), automargin: true, ...more });
  const layout = (more) => ({ paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink("ink"), size: 12 }, margin: { t: 10, r: 10, l: 60, b: 50 }, ...(innerWidth < 640 ? { legend: { orientation: "h", y: -0.25, yanchor: "top" }, height: 540 } : { legend: { orientation: "h", y: 1.02, yanchor: "bottom" } }), hovermode: "closest", ...more });
  function tell(event, i, text) {
    const tip = $("tip");
    tip.replaceChildren(...(i >= 0 && source(i) ? [picture(i)] : []), ...text);
    tip.hidden = false;
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 240)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
  }
  function hovering(plot, show, click) {
    for (const each of ["plotly_hover", "plotly_unhover", "plotly_click"]) plot.removeAllListeners?.(each);
    plot.on("plotly_hover", (event) => show(event.event, event.points[0]));
    plot.on("plotly_unhover", () => { $("tip").hidden = true; });
    plot.on("plotly_click", (event) => { $("tip").hidden = true; click(event.points[0]); });
  }

  function matrix() {
    const m = state.method, method = D.methods[m], place = new Array(C), minus = $("difference").checked && m !== D.first;
    D.order.forEach((c, k) => { place[c] = k; });
    const blank = () => Array.from({ length: C }, () => new Array(C).fill(null));
    const off = blank(), own = blank(), text = C <= 15 ? blank() : undefined;
    const put = (i, j, n) => {
      const [y, x] = [place[i], place[j]], rate = 100 * n / method.rows[i];
      if (text) text[y][x] = String(n);
      if (i === j && !minus) own[y][x] = rate;
      else if (!minus) off[y][x] = Math.sqrt(rate);
      else off[y][x] = rate - 100 * count(D.first, i, j) / (D.methods[D.first].rows[i] || 1);
    };
    for (const [key, n] of method.cells) put(Math.floor(key / C), key % C, n);
    if (minus) for (const key of D.methods[D.first].cells.keys()) if (!method.cells.has(key)) put(Math.floor(key / C), key % C, 0);
    const heat = dark() ? [[0, "#2a2118"], [0.3, "#8a4b12"], [0.65, "#ef9b3d"], [1, "#fff3d6"]] : [[0, "#fff2dc"], [0.3, "#fdbb6b"], [0.65, "#d7301f"], [1, "#5c0011"]];
    const change = [[0, "#2166ac"], [0.5, dark() ? "#14161a" : "#ffffff"], [1, "#e08214"]];
    const most = off.reduce((a, row) => row.reduce((b, v) => Math.max(b, Math.abs(v ?? 0)), a), 0) || 1;
    const ticks = [0.5, 1, 2, 5, 10, 20, 40, 70, 100].filter((t) => Math.sqrt(t) <= most * 1.02);
    const base = { type: "heatmap", hoverinfo: "none", text, texttemplate: text ? "%{text}" : undefined, xgap: C <= 60 ? 1 : 0, ygap: C <= 60 ? 1 : 0 };
    const traces = [{ ...base, z: off, colorscale: minus ? change : heat, zmin: minus ? -most : 0, zmax: most,
      colorbar: { title: { text: minus ? "points" : "% of the row" }, thickness: 12, ...(minus ? {} : { tickvals: ticks.map(Math.sqrt), ticktext: ticks.map(String) }) } }];
    if (!minus) traces.push({ ...base, z: own, colorscale: dark() ? [[0, "#22272e"], [1, "#5a6573"]] : [[0, "#f1f2f4"], [1, "#b9bfc8"]], zmin: 0, zmax: 100, showscale: false });
    const shapes = [];
    if (D.family) for (let start = 0; start < C;) {
      let end = start;
      while (end < C && D.family[D.order[end]] === D.family[D.order[start]]) end++;
      shapes.push({ type: "rect", x0: start - 0.5, x1: end - 0.5, y0: start - 0.5, y1: end - 0.5, line: { width: 1, color: ink("link") } });
      start = end;
    }
    const labels = (from, to) => (to - from > NAMED ? { tickvals: [], ticktext: [] } : { tickvals: D.order.map((_, k) => k).slice(from, to), ticktext: D.order.slice(from, to).map((c) => plain(short(name(c)))) });
    const all = labels(0, C), plot = $("matrix-plot");
    Plotly.react(plot, traces, layout({ shapes, xaxis: axis({ ...all, tickangle: -90, title: { text: "called" }, showgrid: false, range: [-0.5, C - 0.5] }),
      yaxis: axis({ ...all, title: { text: "class of the image" }, showgrid: false, range: [C - 0.5, -0.5] }), height: Math.max(380, Math.min(900, plot.clientWidth)) }), config).then(() => {
      const words = ([i, j]) => [bdi(name(i)), i === j ? " called rightly: " : make("span", {}, " called ", bdi(name(j)), ": "), `${count(m, i, j)} of ${method.rows[i]} (${share(count(m, i, j), method.rows[i])})`];
      const at = (point) => [D.order[Math.round(point.y)], D.order[Math.round(point.x)]];
      hovering(plot, (event, point) => { const pair = at(point); tell(event, called(m, ...pair)[0] ?? -1, words(pair)); }, (point) => cell(m, ...at(point)));
      plot.removeAllListeners?.("plotly_relayout");
      plot.on("plotly_relayout", (change) => {
        if (!Object.keys(change).some((key) => /axis\.(range|autorange)/.test(key))) return;
        const update = {};
        for (const side of ["xaxis", "yaxis"]) {
          const [low, high] = plot.layout[side].range.map(Number).sort((a, b) => a - b);
          const kept = labels(Math.max(0, Math.ceil(low)), Math.min(C, Math.floor(high) + 1));
          update[`${side}.tickvals`] = kept.tickvals;
          update[`${side}.ticktext`] = kept.ticktext;
        }
        Plotly.relayout(plot, update);
      });
    });
  }
  function cells() {
    if (!$("cells")) return;
    const m = state.method, list = [...D.methods[m].cells].map(([key, n]) => [Math.floor(key / C), key % C, n]).filter(([i, j]) => i !== j && fits(name(i), name(j)));
    list.sort((a, b) => b[2] - a[2] || a[0] - b[0]);
    $("cells").tBodies[0].replaceChildren(...list.slice(0, 40).map(([i, j, n]) => make("tr", {}, make("th", { scope: "row" }, bdi(name(i))), make("td", { class: "text" }, make("button", { type: "button", onclick: () => cell(m, i, j) }, bdi(name(j)))),
      make("td", {}, String(n)), make("td", {}, String(D.methods[m].rows[i])), make("td", {}, share(n, D.methods[m].rows[i])))));
  }

  function map() {
    const found = D.maps[Number($("map-of").value)], plot = $("map-plot");
    if (!found) {
      plot.style.minHeight = 0;
      return plot.replaceChildren(make("p", { class: "note" }, "No embedding was kept for this page: results of older versions have none."));
    }
    const run = D.runs[found.run], groups = [[], []];
    for (let i = 0; i < found.x.length; i++) groups[isRight(run, i) || D.labels[i] < 0 ? 0 : 1].push(i);
    const trace = (list, title, colour, symbol) => ({ type: "scatter", mode: "markers", name: title, hoverinfo: "none", customdata: list, x: list.map((i) => found.x[i]), y: list.map((i) => found.y[i]), marker: { size: list.length > 2000 ? 5 : 7, color: colour, symbol, opacity: 0.75 } });
    return Plotly.react(plot, [trace(groups[0], D.labels[0] < 0 ? "images" : "called rightly", ink("right"), "circle"), trace(groups[1], "called wrongly", ink("wrong"), "x")], layout({ xaxis: axis({ visible: false }), yaxis: axis({ visible: false, scaleanchor: "x" }), height: 620 }), config)
      .then(() => hovering(plot, (event, point) => tell(event, point.customdata, [bdi(name(D.labels[point.customdata])), make("br"), said(point.customdata, run) ?? ""]), (point) => detail(point.customdata, groups[point.curveNumber])));
  }

  // What was composed elsewhere: traces and a layout of each choice.
  function composed(id) {
    const chosen = $(id) && $(id).tagName === "SELECT" ? Number($(id).value) : 0;
    const [, traces, own] = D.figures[id][chosen] || ["", [], { annotations: [{ text: "Nothing was kept.", showarrow: false }] }];
    const coloured = traces.map((t) => (t.line && t.line.color ? { ...t, line: { ...t.line, color: visible(t.line.color) } } : t));
    Plotly.react($(`${id}-plot`), coloured, layout({ ...own, xaxis: axis(own.xaxis), yaxis: axis(own.yaxis) }), config);
  }

  // The beginning.
  const options = (select, list) => select.replaceChildren(...list.map(([value, text]) => make("option", { value }, text)));
  const lists = () => { cards(); cells(); classes(); images(); suspects(); };
  function themed(name, keep) {
    document.documentElement.dataset.theme = name;
    $("theme").setAttribute("aria-pressed", String(name === "dark"));
    try { if (keep) localStorage.setItem("theme", name); } catch { /* a browser that keeps nothing */ }
    redraw(...Object.keys(draws));
  }
  let kept = null;
  try { kept = localStorage.getItem("theme"); } catch { /* as above */ }
  themed(kept || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"), false);
  $("theme").addEventListener("click", () => themed(dark() ? "light" : "dark", true));
  for (const dialog of [$("list"), $("detail")]) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  for (const id of ["before", "after"]) $(id).addEventListener("click", () => step(id));
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && $("search")) { event.preventDefault(); $("search").focus(); }
    if ($("detail").open && event.key === "ArrowLeft") step("before");
    if ($("detail").open && event.key === "ArrowRight") step("after");
  });
  for (const id of ["curve", "weights"].filter($)) {
    options($(id), D.figures[id].map(([label], k) => [k, label]));
    $(id).addEventListener("change", () => redraw(`${id}-plot`));
  }
  if ($("search")) {
    options($("method"), D.methods.map((method, m) => [m, method.title]));
    $("method").value = D.first;
    options($("which"), Object.entries(kinds).filter(([key]) => D.methods.length > 1 || !["fixed", "broken", "never"].includes(key)).map(([key, [text]]) => [key, text]));
    options($("map-of"), D.maps.length ? D.maps.map((each, k) => [k, each.title]) : [[0, "nothing was kept"]]);
    $("method").addEventListener("change", () => { state.method = Number($("method").value); state.shown = PAGE; lists(); redraw("matrix-plot"); });
    let waiting = 0;
    $("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => { state.query = fold($("search").value.trim()); state.shown = PAGE; lists(); }, 150); });
    $("which").addEventListener("change", () => { state.shown = PAGE; images(); });
    $("more").addEventListener("click", () => { state.shown += PAGE; images(); });
    $("map-of").addEventListener("change", () => redraw("map-plot"));
    if (D.labelled) {
      $("difference").addEventListener("change", () => redraw("matrix-plot"));
      $("export").addEventListener("click", exported);
    }
    lists();
    copies();
  }
  const watch = new IntersectionObserver((entries) => { for (const entry of entries) if (entry.isIntersecting) { seen.add(entry.target.id); drawn(entry.target.id); } }, { rootMargin: "300px" });
  for (const id of Object.keys(draws)) if ($(id)) watch.observe($(id));
  document.documentElement.dataset.ready = "yes";
})();
