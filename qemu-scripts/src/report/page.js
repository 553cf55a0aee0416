"use strict";
// Sorts and filters the tables, and zooms the flame graph. The page is complete without this script.
function key(text) {
    if (/^0x[0-9a-f]+$/.test(text)) return BigInt(text);
    const number = text.replaceAll(",", "");
    return number !== "" && !isNaN(number) ? Number(number) : text;
}
function compare(one, other) {
    if (typeof one === "string" || typeof other === "string") {
        // Text after numbers.
        return (typeof one === "string") - (typeof other === "string") || one.localeCompare(other);
    }
    return one < other ? -1 : one > other ? 1 : 0;
}
function sort(table, column) {
    const heading = table.tHead.rows[0].cells[column];
    const isNumber = heading.classList.contains("n");
    const now = heading.getAttribute("aria-sort");
    // The first click on a number shows the largest.
    const order = now ? (now === "ascending" ? "descending" : "ascending") : (isNumber ? "descending" : "ascending");
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", order);
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, row => [key(row.cells[column].textContent), row]);
    const sign = order === "ascending" ? 1 : -1;
    rows.sort(([one], [other]) => sign * compare(one, other));
    body.append(...rows.map(([, row]) => row));
}
for (const section of document.querySelectorAll(".table")) {
    const table = section.querySelector("table");
    Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = heading.textContent;
        button.addEventListener("click", () => sort(table, column));
        heading.replaceChildren(button);
    });
    const rows = Array.from(table.tBodies[0].rows);
    if (rows.length < 8) continue;
    const label = document.createElement("label");
    label.className = "filter";
    const input = document.createElement("input");
    input.type = "search";
    const count = document.createElement("output");
    label.append("Filter", input, count);
    section.insertBefore(label, section.querySelector(".scroll"));
    const filter = () => {
        const words = input.value.toLowerCase().split(/\s+/);
        let shown = 0;
        for (const row of rows) {
            const text = row.textContent.toLowerCase();
            row.hidden = !words.every(word => text.includes(word));
            shown += !row.hidden;
        }
        count.textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
    };
    input.addEventListener("input", filter);
    filter();
}
// A link shows its row also where a filter hides it.
addEventListener("hashchange", () => {
    const row = document.getElementById(location.hash.slice(1));
    if (!row) return;
    row.hidden = false;
    row.scrollIntoView({ block: "center" });
});
for (const graph of document.querySelectorAll(".flame > svg")) {
    const cells = Array.from(graph.querySelectorAll(".cell"), cell =>
        ({ cell, start: parseFloat(cell.getAttribute("x")), width: parseFloat(cell.getAttribute("width")) }));
    const zoom = chosen => {
        const end = chosen.start + chosen.width, margin = 0.002;
        for (const { cell, start, width } of cells) {
            // Those around the chosen one fill the graph, too.
            const from = Math.max(start, chosen.start), to = Math.min(start + width, end);
            cell.style.display = to - from > margin ? "" : "none";
            cell.setAttribute("x", `${(from - chosen.start) / chosen.width * 100}%`);
            cell.setAttribute("width", `${Math.max(to - from, 0) / chosen.width * 100}%`);
        }
    };
    for (const chosen of cells) {
        // Narrow cells have no text until they are zoomed.
        if (!chosen.cell.querySelector("text")) {
            const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
            text.setAttribute("x", 4);
            text.setAttribute("y", 13);
            text.textContent = chosen.cell.querySelector("title").textContent.replace(/: [^:]*$/, "");
            chosen.cell.append(text);
        }
        chosen.cell.setAttribute("tabindex", "0");
        chosen.cell.addEventListener("click", () => zoom(chosen));
        chosen.cell.addEventListener("keydown", event => { if (event.key === "Enter") zoom(chosen); });
    }
}
