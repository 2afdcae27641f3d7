// Sorting, filtering and copying for tables that are complete without it.
(function () {
  "use strict";
  document.documentElement.classList.add("js");

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function key(cell) {
    const given = cell.dataset.v;
    return given === undefined ? cell.textContent.trim() : Number(given);
  }

  // Empty cells last, whichever way, and so is what has no bound ("inf" is no number here); figures by value, text as people
  // count (t2 before t16).
  const collator = new Intl.Collator("en", { numeric: true });
  function compared(a, b, sign) {
    const empty = (value) => value === "" || Number.isNaN(value);
    if (empty(a) || empty(b)) return Number(empty(a)) - Number(empty(b));
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * collator.compare(String(a), String(b));
  }

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [key(row.cells[at]), row]);
        rows.sort((a, b) => compared(a[0], b[0], up ? 1 : -1));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  function filterable(table, tools) {
    const rows = [...table.tBodies[0].rows], heads = [...table.tHead.rows[0].cells];
    const texts = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent.trim())]));
    const words = make("input", { type: "search", placeholder: "all these words" });
    const count = make("output", {});
    const picks = [];
    tools.append(make("label", {}, "Filter", words));
    heads.forEach((head, at) => {
      if (head.dataset.pick === undefined) return;
      const values = [...new Set(rows.map((row) => texts.get(row)[at]))].sort(collator.compare);
      if (values.length < 2) return;
      const name = head.textContent;
      const pick = make("select", {}, make("option", { value: "", textContent: "all" }),
        ...values.map((value) => make("option", { value: "=" + value, textContent: value || "(none)" })));
      picks.push([at, pick]);
      tools.append(make("label", {}, name, pick));
    });
    const reset = make("button", { type: "button", className: "act", textContent: "Show all" });
    tools.append(reset, count);
    function apply() {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      for (const row of rows) {
        const cells = texts.get(row), text = cells.join(" ").toLowerCase();
        row.hidden = !(wanted.every((word) => text.includes(word)) &&
          picks.every(([at, pick]) => !pick.value || pick.value === "=" + cells[at]));
        left += row.hidden ? 0 : 1;
      }
      count.textContent = left + " of " + rows.length + " rows";
    }
    words.addEventListener("input", apply);
    picks.forEach(([, pick]) => pick.addEventListener("change", apply));
    reset.addEventListener("click", () => {
      words.value = "";
      picks.forEach(([, pick]) => { pick.value = ""; });
      apply();
    });
    apply();
  }

  for (const tools of document.querySelectorAll("[data-tools]")) {
    const table = document.getElementById(tools.dataset.tools);
    filterable(table, tools);
    sortable(table);
  }

  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy), said = document.getElementById("copied");
      try {
        await navigator.clipboard.writeText(source.textContent);
        said.textContent = "Copied.";
      } catch (problem) {
        getSelection().selectAllChildren(source);
        said.textContent = "Selected: copy it with Ctrl+C.";
      }
    });
  }
})();
