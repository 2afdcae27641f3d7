// The baseline that a reader chooses, and the plots. Data comes as JSON; text from it is only ever set as text.
(function () {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const data = (id) => JSON.parse(byId(id).textContent);

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.textContent = text;
    return made;
  }

  // ---- side by side
  const VERDICTS = { faster: "faster", slower: "slower", same: "same", unsure: "unsure", base: "baseline" };
  const chip = (verdict) => element("span", "v " + verdict, VERDICTS[verdict]);

  function verdictCell(verdict, note) {
    const parts = [];
    if (VERDICTS[verdict]) parts.push(chip(verdict));
    if (note) parts.push(element("span", "none", (verdict ? " " : "none ") + "[" + note + "]"));
    return parts;
  }

  function claim([headline, detail, verdict]) {
    const item = element("li", "claim", ""), how = element("span", "how", "");
    if (VERDICTS[verdict]) how.append(chip(verdict), " ");
    how.append(detail);
    item.append(element("strong", "", headline), how);
    return item;
  }

  const baseline = byId("baseline");
  if (baseline) {
    const bases = data("bases"), rows = [...byId("sides").querySelectorAll("tr[data-row]")];
    const apply = () => {
      const base = bases[Number(baseline.value)];
      byId("baseline-name").textContent = baseline.selectedOptions[0].textContent;
      byId("claims").replaceChildren(...base.claims.map(claim));
      rows.forEach((row, at) => {
        const [change, interval, verdict, note] = base.cells[at];
        row.cells[4].textContent = change;
        row.cells[5].textContent = interval;
        row.cells[6].replaceChildren(...verdictCell(verdict, note));
      });
    };
    baseline.addEventListener("change", apply);
    if (baseline.value !== "0") apply();  // a browser that remembers what was chosen
  }

  // ---- plots
  const figures = data("drawn"), model = byId("model"), kase = byId("case");
  const dark = matchMedia("(prefers-color-scheme: dark)"), fine = matchMedia("(pointer: fine)");
  const PRINT = { ink: "#16191d", line: "#d8dde3", card: "#ffffff" };
  const MOST_AT_ONCE = 16;
  let printing = false;

  function colours() {
    if (printing) return PRINT;
    const style = getComputedStyle(document.documentElement);
    return Object.fromEntries(Object.keys(PRINT).map((name) => [name, style.getPropertyValue("--" + name).trim()]));
  }

  function traces(figure) {
    const choice = figure.by === "case" ? kase : model;
    const by = figure.by;
    if (!choice || !choice.value) return figure.data;
    return figure.data.filter((trace) => trace.meta[by] === undefined || "=" + trace.meta[by] === choice.value);
  }

  function draw(id) {
    const figure = figures[id], { ink, line, card } = colours(), shown = traces(figure);
    const layout = Object.assign({}, figure.layout, {
      font: { color: ink, size: 13 },
      hoverlabel: { bgcolor: card, font: { color: ink } },
      dragmode: fine.matches ? "zoom" : false,
      annotations: shown.length ? [] : [{ text: "nothing of this model", showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }],
    });
    for (const axis of ["xaxis", "yaxis"]) {
      layout[axis] = Object.assign({}, layout[axis], { gridcolor: line, linecolor: line, tickcolor: line });
    }
    return Plotly.react("plot-" + id, shown, layout, { responsive: true, displayModeBar: false });
  }

  const ids = Object.keys(figures).filter((id) => byId("plot-" + id));
  const drawn = new Set();
  const redraw = () => drawn.forEach(draw);

  function choices(select, by) {
    const all = ids.filter((id) => figures[id].by === by).flatMap((id) => figures[id].data);
    return [...new Set(all.map((trace) => trace.meta[by]).filter((value) => value !== undefined))];
  }

  function offer(select, values, everything) {
    if (!select) return;
    const options = values.map((value) => Object.assign(element("option", "", value), { value: "=" + value }));
    if (everything) options.unshift(Object.assign(element("option", "", "all models"), { value: "" }));
    select.replaceChildren(...options);
    select.addEventListener("change", redraw);
  }

  if (ids.length) {
    const models = choices(model, "model");
    offer(model, models, true);
    const most = Math.max(0, ...ids.filter((id) => figures[id].by === "model").map((id) => figures[id].data.length));
    if (most > MOST_AT_ONCE && models.length > 1) model.value = "=" + models[0];
    offer(kase, choices(kase, "case"), false);
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        const id = entry.target.id.slice("plot-".length);
        seen.unobserve(entry.target);
        drawn.add(id);
        draw(id).then(() => performance.mark("drawn"));
      }
    }, { rootMargin: "300px" });
    ids.forEach((id) => { byId("plot-" + id).replaceChildren(); seen.observe(byId("plot-" + id)); });
    dark.addEventListener("change", redraw);
    addEventListener("beforeprint", () => { printing = true; ids.forEach((id) => { drawn.add(id); draw(id); }); });
    addEventListener("afterprint", () => { printing = false; redraw(); });
  }
  document.documentElement.dataset.ready = "";
  performance.mark("ready");
})();
