"use strict";
// Tables sort on their headings and filter by words; the page is whole without any of this.
(() => {
  const PAGE = 200; // rows shown at once, and added by "show more"
  const SCALE = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, n: 1e-9, u: 1e-6, m: 1e-3 };
  const UNIT = /([kMGTP]?)(?:FLOP|B)\b|\b([num]?)s\b/g;

  // The first number of a cell in its base unit: 1.2 ms and 900 us compare as durations. The unit may stand at the end
  // of a range. Cells without a number are last whichever way.
  function amount(text) {
    const found = /[-+]?\d[\d.,]*(?:e[-+]?\d+)?/.exec(text);
    if (!found) return NaN;
    const units = [...text.slice(found.index).matchAll(UNIT)];
    const unit = units.length ? units[0] : null;
    return Number(found[0].replaceAll(",", "")) * (unit ? SCALE[unit[1] || unit[2]] ?? 1 : 1);
  }

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function readRows(box) {
    const rows = [];
    for (const body of box.querySelectorAll("tbody")) {
      const head = body.querySelector(".group .pin");
      const group = head ? groupOf(head) : null;
      for (const row of body.querySelectorAll("tr:not(.group)")) {
        rows.push({ group, cells: [...row.cells].map((cell) => cell.textContent) });
      }
    }
    const rest = box.querySelector("script.rest");
    if (!rest) return rows;
    for (const [title, detail, marks, others] of JSON.parse(rest.textContent)) {
      const last = rows.length ? rows[rows.length - 1].group : null;
      const same = last && last.title === title && last.detail === detail;
      const group = same ? last : title ? { title, detail, marks } : null;
      for (const cells of others) rows.push({ group, cells });
    }
    return rows;
  }

  function groupOf(head) {
    const detail = head.querySelector("small");
    const marks = [...head.querySelectorAll("mark")].map((mark) => mark.textContent);
    return { title: head.firstChild.textContent.trim(), detail: detail ? detail.textContent : "", marks };
  }

  class Table {
    constructor(box) {
      this.box = box;
      this.table = box.querySelector("table");
      this.headings = [...this.table.tHead.rows[0].cells];
      this.figures = this.headings.map((cell) => cell.classList.contains("figures"));
      this.column = -1;
      this.way = "none";
      this.words = [];
      this.limit = PAGE;
      this.total = Number(box.dataset.rows);
      this.addTools();
      this.headings.forEach((cell, at) => this.addSort(cell, at));
    }

    addTools() {
      this.filter = element("input", { type: "search", autocomplete: "off", spellcheck: "false" });
      this.count = element("span", { role: "status" });
      this.more = element("button", { type: "button" });
      this.filter.addEventListener("input", () => {
        this.words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
        this.limit = PAGE;
        this.show();
      });
      this.more.addEventListener("click", () => {
        this.limit += PAGE;
        this.show();
      });
      const name = this.box.querySelector(".scroll").getAttribute("aria-label");
      this.filter.setAttribute("aria-label", `Filter ${name}`);
      this.box.prepend(element("div", { class: "tools" }, element("label", {}, "Filter", this.filter), this.count));
      const note = this.box.querySelector(".more");
      if (note) note.remove();
      this.box.append(element("div", { class: "tools" }, this.more));
      this.tell(this.total, Math.min(this.total, PAGE));
    }

    addSort(cell, at) {
      const button = element("button", { type: "button" }, ...cell.childNodes);
      cell.append(button);
      cell.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" };
        this.way = this.column === at ? next[this.way] : "ascending";
        this.column = this.way === "none" ? -1 : at;
        this.headings.forEach((other, place) => other.setAttribute("aria-sort", place === at ? this.way : "none"));
        this.limit = PAGE;
        this.show();
      });
    }

    found() {
      // Read when first asked for: of long tables the rest is a large text.
      this.rows ??= readRows(this.box);
      for (const row of this.words.length ? this.rows : []) {
        row.text ??= [row.group ? `${row.group.title} ${row.group.detail} ${row.group.marks.join(" ")}` : "", ...row.cells]
          .join(" ")
          .toLowerCase();
      }
      const rows = this.rows.filter((row) => this.words.every((word) => row.text.includes(word)));
      return this.column < 0 ? rows : this.sorted(rows);
    }

    sorted(rows) {
      const at = this.column;
      const way = this.way === "ascending" ? 1 : -1;
      if (!this.figures[at]) {
        const order = new Intl.Collator("en", { numeric: true }).compare;
        return rows.slice().sort((a, b) => way * order(a.cells[at], b.cells[at]));
      }
      const keyed = rows.map((row) => [amount(row.cells[at]), row]);
      const known = keyed.filter(([key]) => !Number.isNaN(key)).sort(([a], [b]) => way * (a - b));
      return [...known, ...keyed.filter(([key]) => Number.isNaN(key))].map(([, row]) => row);
    }

    show() {
      const rows = this.found();
      const shown = rows.slice(0, this.limit);
      for (const body of [...this.table.tBodies]) body.remove();
      let group;
      let body = null;
      for (const row of shown) {
        if (!body || (this.column < 0 && row.group !== group)) {
          group = row.group;
          body = this.table.appendChild(element("tbody"));
          if (group && this.column < 0) body.append(this.groupRow(group));
        }
        body.append(this.row(row));
      }
      this.tell(rows.length, shown.length);
    }

    groupRow({ title, detail, marks }) {
      const pin = element("span", { class: "pin" }, title);
      if (detail) pin.append(" ", element("small", {}, detail));
      for (const mark of marks) pin.append(" ", element("mark", {}, mark));
      return element("tr", { class: "group" }, element("th", { scope: "rowgroup", colspan: this.headings.length }, pin));
    }

    row({ group, cells }) {
      const made = element("tr");
      cells.forEach((text, at) => {
        const cell = at ? element("td", {}, text) : element("th", { scope: "row" }, text);
        if (at && this.figures[at]) cell.className = "figures";
        // Sorted rows leave their groups, and take the title along.
        if (!at && group && this.column >= 0) cell.append(element("small", {}, `${group.title} ${group.detail}`));
        made.append(cell);
      });
      return made;
    }

    tell(found, shown) {
      const of = found < this.total ? ` of ${this.total}` : "";
      this.count.textContent = `${found}${of} row${found === 1 ? "" : "s"}${shown < found ? `, ${shown} shown` : ""}`;
      this.more.hidden = shown >= found;
      this.more.textContent = `Show ${Math.min(PAGE, found - shown)} more`;
    }
  }

  function addScheme() {
    const root = document.documentElement;
    const order = ["system", "light", "dark"];
    const button = element("button", { type: "button", class: "scheme" });
    const name = () => root.dataset.scheme ?? "system";
    const tell = () => (button.textContent = `Colours: ${name()}`);
    button.addEventListener("click", () => {
      const next = order[(order.indexOf(name()) + 1) % order.length];
      if (next === "system") delete root.dataset.scheme;
      else root.dataset.scheme = next;
      tell();
    });
    tell();
    document.querySelector("header").prepend(button);
  }

  addScheme();
  window.sortable = (box) => new Table(box);
  document.querySelectorAll(".data").forEach(window.sortable);
})();
